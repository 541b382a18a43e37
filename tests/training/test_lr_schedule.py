import functools

import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, GradientAccumulationScheduler
from samples import tiny_data, train
from torch.optim import SGD
from torch.utils.data import DataLoader, IterableDataset

from fmnist_lightning import MLP, FashionClassifier, create_trainer

pytestmark = pytest.mark.usefixtures("data_dir")


def learning_rates(epochs=2, **options):
    """Those of a run with 10 steps in an epoch and the optimizer's learning rate 0.1."""
    classifier = FashionClassifier(optimizer=functools.partial(SGD, lr=0.1), **options)
    _, recorder = train(classifier, tiny_data(), epochs=epochs)
    return recorder.rates


def test_one_cycle_changes_the_learning_rate_every_step():
    rates = learning_rates(warmup_fraction=0.25)
    assert len(set(rates)) == 20
    assert max(rates) == pytest.approx(0.1)
    assert rates[0] == pytest.approx(0.1 / 25)
    assert rates.index(max(rates)) == 4  # a quarter of the 20 steps
    assert rates[-1] < 1e-5


@pytest.mark.parametrize("warmup", [0, 0.05, 0.9])
def test_one_cycle_reaches_its_peak_in_a_short_run(warmup):
    rates = learning_rates(epochs=1, warmup_fraction=warmup)
    assert len(rates) == 10
    assert 0.09 < max(rates) <= 0.1
    assert rates[-1] < 1e-5


def test_constant_schedule_keeps_the_learning_rate():
    assert set(learning_rates(lr_schedule="constant")) == {0.1}


def test_one_cycle_without_max_epochs_is_refused():
    with pytest.raises(ValueError, match=r"one_cycle .*max_epochs"):
        learning_rates(epochs=-1)


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_warmup_fraction_out_of_range_is_refused(warmup):
    with pytest.raises(ValueError, match=f"warmup_fraction must be .* not {warmup}"):
        FashionClassifier(warmup_fraction=warmup)


class WithBackbone(MLP):
    def __init__(self):
        super().__init__()
        self.backbone = self.features


@pytest.mark.parametrize("callback", [BackboneFinetuning(), GradientAccumulationScheduler({1: 2})])
def test_one_cycle_with_a_callback_that_changes_its_steps_or_parameters_is_refused(callback):
    trainer = create_trainer(accelerator="cpu", max_epochs=2, logger=False, callbacks=callback)
    name = type(callback).__name__
    with pytest.raises(ValueError, match=f"one_cycle schedule does not support {name}: set"):
        trainer.fit(FashionClassifier(WithBackbone), datamodule=tiny_data())


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(28, 28, dtype=torch.uint8), 3


def test_one_cycle_over_data_without_a_length_is_refused():
    trainer = create_trainer(accelerator="cpu", max_epochs=1, logger=False)
    with pytest.raises(ValueError, match="one_cycle schedule needs the number of steps of the run"):
        trainer.fit(FashionClassifier(), *[DataLoader(Endless(), batch_size=4)] * 2)
