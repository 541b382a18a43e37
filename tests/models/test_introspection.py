import torch
from torch import Tensor, nn

from fmnist_lightning import MLP, ArticleCNN, SmallResNet
from fmnist_lightning.models.introspection import feature_maps, first_conv_filters


def test_feature_maps_of_the_article_network() -> None:
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


def test_first_conv_filters() -> None:
    filters = first_conv_filters(SmallResNet(stem_channels=8, channels=[8]))
    assert filters is not None
    assert filters.shape == (8, 3, 3)
    assert not filters.requires_grad
    assert first_conv_filters(MLP()) is None


class Unusual(nn.Module):
    """A network with unusual layers."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.linear = nn.Linear(14, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows, _ = self.pool(images)  # (N, 1, 14, 14)
        logits: Tensor = self.linear(rows[:, 0]).mean(dim=1)  # of each row
        return logits


def test_layers_with_other_outputs_are_left_out() -> None:
    network, inputs = Unusual().eval(), torch.rand(1, 1, 28, 28)
    assert feature_maps(network, inputs) == []
