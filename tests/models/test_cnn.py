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


@pytest.mark.parametrize(
    ("build", "num", "first", "total"),
    [
        (ArticleCNN, 11_252, -0.1982946, -5.735499),
        (MLP, 101_770, -0.03540975, -9.420095),
        (SmallResNet, 486_650, -0.3304910, 665.6084),
        (lambda: ResNetEnsemble(num_members=2), 2 * 491_322, -0.3304910, 1442.852),
    ],
)
def test_initial_weights_for_a_seed_stay_the_same(build, num, first, total):
    """Published results depend on them."""
    torch.manual_seed(3)
    weights = nn.utils.parameters_to_vector(build().parameters()).detach().double()
    assert len(weights) == num
    found = [float(weights[0]), float(weights.sum())]
    assert found == pytest.approx([first, total], rel=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        *(ArticleCNN, MLP, SmallResNet, ResNetEnsemble),
        lambda num_classes: PretrainedNetwork("test_efficientnet", None, num_classes=num_classes),
    ],
)
def test_any_number_of_classes(build):
    network = build(num_classes=4)
    assert network(torch.rand(6, 1, 28, 28)).shape == (6, 4)
    assert isinstance(network, ResNetEnsemble) or network.get_submodule("head")


def test_article_cnn_ends_in_a_sigmoid_only_on_request():
    images = torch.rand(50, 1, 28, 28)
    without, with_sigmoid = ArticleCNN(), ArticleCNN(sigmoid=True)
    with_sigmoid.load_state_dict(without.state_dict())
    assert without(images).min() < 0
    assert torch.equal(with_sigmoid(images), without(images).sigmoid())
