import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from samples import tiny_data
from torch import Tensor, nn

from fmnist_lightning import ArticleCNN, FashionClassifier, create_trainer
from fmnist_lightning.data.dataset import Batch


class PartlyFrozen(ArticleCNN):
    """A network with a parameter that is frozen, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.features[0].weight.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))


class OwnStep(FashionClassifier):
    """Learns labels that are shifted by a class."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        return super().training_step((images, (labels + 1) % 10), batch_idx)


def train(classifier: FashionClassifier, **kwargs: Any) -> Trainer:
    """Two epochs of 10 steps."""
    trainer = create_trainer(accelerator="cpu", max_epochs=2, logger=False, **kwargs)
    trainer.fit(classifier, datamodule=tiny_data())
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("network", [ArticleCNN, PartlyFrozen])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 4, "gradient_clip_val": 0.5}])
@pytest.mark.usefixtures("data_dir")
def test_compile_changes_weights_by_rounding_only(
    network: Callable[[], nn.Module], options: dict[str, Any]
) -> None:
    """All of the weights, with SGD: AdamW makes steps of the same size from tiny gradients."""
    weights = []
    for compile in (False, True):
        seed_everything(0)
        classifier = FashionClassifier(
            network, functools.partial(torch.optim.SGD, lr=0.1), compile=compile
        )
        train(classifier, **options)
        assert (classifier.compiled_step is not None) == compile
        weights.append(classifier.state_dict())
    assert weights[0].keys() == weights[1].keys()
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_compile_with_an_own_training_step_compiles_the_network() -> None:
    losses = []
    for compile in (False, True):
        seed_everything(0)
        classifier = OwnStep(compile=compile)
        losses.append(float(train(classifier).callback_metrics["train/loss"]))
        assert classifier.compiled_step is None
        assert (classifier.network._compiled_call_impl is not None) == compile
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_wrong_label_is_an_error_of_a_compiled_step() -> None:
    data = tiny_data()
    data.setup("fit")
    data.train_dataset.labels[5] = 10
    trainer = create_trainer(accelerator="cpu", max_epochs=1, logger=False)
    with pytest.raises(ValueError, match="labels must be 0 to 9 for 10 classes, not 0 to 10"):
        trainer.fit(FashionClassifier(compile=True), data.train_dataloader(), data.val_dataloader())


@pytest.mark.parametrize("module", [FashionClassifier, OwnStep])
@pytest.mark.usefixtures("data_dir")
def test_compile_without_a_compiler_is_an_error(module: type[FashionClassifier]) -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(ValueError, match=r"compile needs a C\+\+ compiler"),
    ):
        train(module(compile=True))
