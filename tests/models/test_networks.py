from typing import Any

import pytest
import torch
from torch import nn

from fmnist_lightning import MLP, ArticleCNN, RegularizedCNN, ResNetEnsemble, SmallResNet
from fmnist_lightning.models.cnn import FastMaxPool2d


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_article_cnn_has_the_articles_layers() -> None:
    network = ArticleCNN()
    assert num_parameters(network) == 11_252
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for layer in [*network.features, *network.head]:
        layer.register_forward_hook(
            lambda layer, _, out: shapes.append((type(layer).__name__, tuple(out.shape[1:])))
        )
    network(torch.rand(2, 1, 28, 28))
    assert shapes == [
        ("Conv2d", (6, 24, 24)),
        ("FastMaxPool2d", (6, 12, 12)),
        ("Conv2d", (10, 8, 8)),
        ("FastMaxPool2d", (10, 4, 4)),
        ("Flatten", (160,)),
        ("Linear", (56,)),
        ("ReLU", (56,)),
        ("Linear", (10,)),
    ]


@pytest.mark.parametrize("size", [(24, 24), (7, 8), (5, 3)])
def test_pooling_is_torchs_also_without_gradients(size: tuple[int, int]) -> None:
    maps = torch.randn(3, 5, *size).relu()  # with ties
    maps[0, 0, 0, 0] = torch.nan
    expected = nn.MaxPool2d(2)(maps)
    exactly: dict[str, Any] = {"equal_nan": True, "rtol": 0, "atol": 0}
    for layout in (torch.contiguous_format, torch.channels_last):
        maps = maps.contiguous(memory_format=layout)
        torch.testing.assert_close(FastMaxPool2d()(maps), expected, **exactly)
        with torch.no_grad():
            torch.testing.assert_close(FastMaxPool2d()(maps), expected, **exactly)


def test_the_sigmoid_is_an_option() -> None:
    images = torch.rand(50, 1, 28, 28)
    logits, squashed = ArticleCNN(), ArticleCNN(sigmoid=True)
    squashed.load_state_dict(logits.state_dict())
    assert logits(images).min() < 0
    assert torch.equal(squashed(images), logits(images).sigmoid())


def test_regularized_cnn_is_two_stages_and_small() -> None:
    network = RegularizedCNN(dropout=0.5)
    assert num_parameters(network) == 85_354
    kinds = [type(layer).__name__ for layer in network.modules()]
    assert [kinds.count(kind) for kind in ("Conv2d", "FastMaxPool2d", "Linear")] == [2, 2, 2]
    images = torch.rand(4, 1, 28, 28)
    assert not torch.equal(network(images), network(images))  # dropout
    network.eval()
    assert torch.equal(network(images), network(images))
    assert network(images).shape == (4, 10)
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1, not 1"):
        RegularizedCNN(dropout=1)


def test_residual_cnn_has_the_stages_it_is_asked_for() -> None:
    network = SmallResNet()
    assert num_parameters(network) == 486_650
    assert network.features(torch.rand(2, 1, 28, 28)).shape == (2, 128, 3, 3)
    network = SmallResNet(stem_channels=4, channels=[6, 8])
    assert network.features(torch.rand(2, 1, 28, 28)).shape == (2, 8, 7, 7)
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    pair = 2 * (16 * 16 * 9 + 2 * 16)
    assert num_parameters(SmallResNet(stem_block=True)) == 486_650 + pair
    assert num_parameters(ResNetEnsemble(num_members=2)) == 2 * (486_650 + pair)


def test_residual_cnn_has_shortcuts() -> None:
    network = SmallResNet(stem_channels=4, channels=[6]).eval()
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        expected = network.features[:2](images)
        for name, parameter in network.features[2].named_parameters():
            if name.startswith("body.1."):  # what the pair adds is nothing now
                parameter.zero_()
        torch.testing.assert_close(network.features(images), expected)


@pytest.mark.parametrize(
    ("first", "widths"), [(0, [8]), (8, []), (8, [8, 0]), (8, [8, 8, 8, 8, 8])]
)
def test_residual_cnn_without_channels_or_places(first: int, widths: list[int]) -> None:
    with pytest.raises(ValueError, match=f"1 to 4 stages.* stem_channels {first} and channels"):
        SmallResNet(first, widths)


def test_ensemble_learns_apart_and_answers_together() -> None:
    torch.manual_seed(0)
    network = ResNetEnsemble(num_members=3, stem_channels=4, channels=[6], stem_block=False)
    assert num_parameters(network) == 3 * num_parameters(SmallResNet(stem_channels=4, channels=[6]))
    images = torch.rand(12, 1, 28, 28)
    network(images)[4:8].sum().backward()  # what the second member said
    grads = [[p.grad for p in member.parameters()] for member in network.members]
    moved = [any(g is not None and bool(g.any()) for g in member) for member in grads]
    assert moved == [False, True, False]
    network.eval()
    each = torch.stack([member(images).softmax(dim=1) for member in network.members])
    torch.testing.assert_close(network(images).softmax(dim=1), each.mean(dim=0))
    assert not torch.allclose(each[0], each[1])
    with pytest.raises(ValueError, match="num_members must be at least 1, not 0"):
        ResNetEnsemble(num_members=0)


def test_ensemble_takes_batches_smaller_than_itself() -> None:
    network = ResNetEnsemble(num_members=3, stem_channels=4, channels=[6], stem_block=False)
    for size in (1, 2, 4, 5):
        assert network(torch.rand(size, 1, 28, 28)).shape == (size, 10)


def test_mlp() -> None:
    assert MLP(hidden_dim=7)(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert num_parameters(MLP(hidden_dim=7)) == 784 * 7 + 7 + 7 * 10 + 10
    with pytest.raises(ValueError, match="hidden_dim must be at least 1, not 0"):
        MLP(hidden_dim=0)
