import functools

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from samples import OwnStep, tiny_data
from torch import nn

from fmnist_lightning import ArticleCNN, FashionClassifier, create_trainer
from fmnist_lightning.internals.compiled import CompiledStep


class PartlyFrozen(ArticleCNN):
    """A network with a parameter that is frozen, and one that is not used."""

    def __init__(self):
        super().__init__()
        self.features[0].weight.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))


class OwnLoss(FashionClassifier):
    def compute_loss(self, images, targets):
        logits = self(images)
        return nn.functional.cross_entropy(logits, targets, label_smoothing=0.1), logits


class Probe(Callback):
    """Whether the step was compiled."""

    def on_train_start(self, trainer, pl_module):
        self.has_compiled_step = isinstance(pl_module.compute_loss, CompiledStep)


def train(classifier, **kwargs):
    """Two epochs of 10 steps; whether the step was compiled."""
    probe = Probe()
    options = {"accelerator": "cpu", "max_epochs": 2, "logger": False}
    trainer = create_trainer(callbacks=probe, **options, **kwargs)
    trainer.fit(classifier, datamodule=tiny_data())
    assert "compute_loss" not in vars(classifier)  # a later fit is not compiled
    return trainer, probe.has_compiled_step


@pytest.mark.slow
@pytest.mark.parametrize("network", [ArticleCNN, PartlyFrozen])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 4, "gradient_clip_val": 0.5}])
@pytest.mark.usefixtures("data_dir")
def test_compile_changes_weights_by_rounding_only(network, options):
    """All of the weights, with SGD: AdamW makes steps of the same size from tiny gradients."""
    weights = []
    for compile in (False, True):
        seed_everything(0)
        classifier = FashionClassifier(network, functools.partial(torch.optim.SGD, lr=0.1))
        _, has_compiled_step = train(classifier, compile=compile, **options)
        assert has_compiled_step == compile
        weights.append(classifier.state_dict())
    assert weights[0].keys() == weights[1].keys()
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("module", [OwnStep, OwnLoss])
@pytest.mark.usefixtures("data_dir")
def test_compile_with_an_own_step_or_loss(module):
    """With a step of one's own, the network is compiled; with a loss of one's own, the step."""
    losses = []
    for compile in (False, True):
        seed_everything(0)
        classifier = module()
        trainer, has_compiled_step = train(classifier, compile=compile)
        losses.append(float(trainer.callback_metrics["train/loss"]))
        assert has_compiled_step == (compile and module is OwnLoss)
        is_network_compiled = classifier.network._compiled_call_impl is not None
        assert is_network_compiled == (compile and module is OwnStep)
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_wrong_label_is_an_error_of_a_compiled_step():
    data = tiny_data()
    data.setup("fit")
    data.train_dataset.labels[5] = 10
    classifier = FashionClassifier()
    trainer = create_trainer(accelerator="cpu", max_epochs=1, logger=False, compile=True)
    with pytest.raises(ValueError, match="labels must be 0 to 9 for 10 classes, not 0 to 10"):
        trainer.fit(classifier, data.train_dataloader(), data.val_dataloader())
    assert "compute_loss" not in vars(classifier)


@pytest.mark.parametrize("module", [FashionClassifier, OwnStep])
@pytest.mark.usefixtures("data_dir")
def test_compile_without_a_compiler_is_an_error(module):
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(ValueError, match=r"compile needs a C\+\+ compiler"),
    ):
        train(module(), compile=True)
