from collections.abc import Callable

import pytest
import torch
from torch import nn

from fmnist_lightning import (
    MLP,
    ArticleCNN,
    PretrainedNetwork,
    ResNetEnsemble,
    SmallResNet,
)


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("build", "first", "total"),
    [
        (ArticleCNN, -0.1982946, -5.735499),
        (MLP, -0.03540975, -9.420095),
        (SmallResNet, -0.3304910, 665.6084),
        (lambda: ResNetEnsemble(num_members=2), -0.3304910, 1442.852),
    ],
)
def test_initial_weights_for_a_seed_stay_the_same(
    build: Callable[[], nn.Module], first: float, total: float
) -> None:
    """Published results depend on them."""
    torch.manual_seed(3)
    weights = [parameter.detach().double() for parameter in build().parameters()]
    found = [float(weights[0].flatten()[0]), sum(float(weight.sum()) for weight in weights)]
    assert found == pytest.approx([first, total], rel=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        *(ArticleCNN, MLP, SmallResNet, ResNetEnsemble),
        lambda num_classes: PretrainedNetwork("test_efficientnet", None, num_classes=num_classes),
    ],
)
def test_any_number_of_classes(build: Callable[..., nn.Module]) -> None:
    network = build(num_classes=4)
    assert network(torch.rand(6, 1, 28, 28)).shape == (6, 4)
    assert isinstance(network, ResNetEnsemble) or network.get_submodule("head")


def test_article_cnn_has_the_layers_of_the_article() -> None:
    network = ArticleCNN()
    assert count_parameters(network) == 11_252
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


def test_article_cnn_ends_in_a_sigmoid_only_on_request() -> None:
    images = torch.rand(50, 1, 28, 28)
    without, with_sigmoid = ArticleCNN(), ArticleCNN(sigmoid=True)
    with_sigmoid.load_state_dict(without.state_dict())
    assert without(images).min() < 0
    assert torch.equal(with_sigmoid(images), without(images).sigmoid())


def test_mlp_has_one_hidden_layer() -> None:
    assert MLP(hidden_dim=7)(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert count_parameters(MLP(hidden_dim=7)) == 784 * 7 + 7 + 7 * 10 + 10
    with pytest.raises(ValueError, match="hidden_dim must be at least 1, not 0"):
        MLP(hidden_dim=0)
