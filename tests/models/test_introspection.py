import torch
from torch import nn

from fmnist_lightning import MLP, ArticleCNN, SmallResNet
from fmnist_lightning.models.introspection import feature_maps, first_conv_filters


def test_feature_maps_of_the_article_network():
    network = ArticleCNN().eval()
    inputs = torch.rand(1, 1, 28, 28)
    maps = feature_maps(network, inputs)
    assert [(name.split()[1], tuple(each.shape)) for name, each in maps] == [
        ("Conv2d", (6, 24, 24)),
        ("FastMaxPool2d", (6, 12, 12)),
        ("Conv2d", (10, 8, 8)),
        ("FastMaxPool2d", (10, 4, 4)),
    ]
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert torch.allclose(maps[0][1], first(inputs)[0])
    assert not any(layer._forward_hooks for layer in network.modules())
    assert len(feature_maps(network, inputs, max_layers=3)) == 3


def test_first_conv_filters():
    filters = first_conv_filters(SmallResNet(stem_channels=8, channels=[8]))
    assert filters.shape == (8, 3, 3)
    assert not filters.requires_grad
    assert first_conv_filters(MLP()) is None


def test_layers_with_other_outputs_are_left_out():
    with_indices = nn.MaxPool2d(2, return_indices=True)  # a tuple
    for network in (with_indices, nn.Sequential(nn.Flatten(0, 1), nn.MaxPool2d(2))):
        assert feature_maps(nn.Sequential(network), torch.rand(1, 1, 28, 28)) == []
