import contextlib
import functools
import gc
import weakref
from pathlib import Path

import psutil
import pytest
import torch
from comparing import assert_same_run
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.strategies import SingleDeviceStrategy
from samples import tiny_data
from torch.optim import LBFGS, SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lightning import FashionClassifier, create_trainer
from fmnist_lightning.internals.fast_loop import FastEpochLoop, to_device

pytestmark = pytest.mark.usefixtures("data_dir")
CPU = {"accelerator": "cpu", "num_threads": 1, "log_every_n_steps": 5}


class Steps(Callback):
    """Records what the hooks of each step get, and logs a value in each of them."""

    def __init__(self):
        self.calls = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.calls.append(("start", batch_idx, trainer.global_step, len(batch[1]), rate))
        pl_module.log("mine", float(batch_idx))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        numbers = {key: float(value) for key, value in outputs.items()}
        self.calls.append(("end", batch_idx, trainer.global_step, numbers))

    def on_validation_start(self, trainer, pl_module):
        self.calls.append(("validation", trainer.global_step, trainer.sanity_checking))


class ClosureWithoutLoss(SGD):
    @torch.no_grad()
    def step(self, closure=None):
        closure()
        super().step()


class EpochSchedules(FashionClassifier):
    """Halves the learning rate in each epoch, or where the validation loss does not improve."""

    def __init__(self, plateau=False):
        super().__init__()
        self.plateau = plateau

    def configure_optimizers(self):
        optimizer = SGD(self.parameters(), lr=0.1)
        if not self.plateau:
            return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=100)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"},
        }


class DictOrNothing(FashionClassifier):
    """Returns a dict from each training step, or None to skip it."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return {"loss": loss, "mine": batch_idx} if batch_idx % 3 else None


class BatchOnly(FashionClassifier):
    def training_step(self, batch):
        return super().training_step(batch, 0)


class ManualOptimization(FashionClassifier):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class OwnClipping(FashionClassifier):
    def configure_gradient_clipping(self, *args, **kwargs):
        for parameter in self.parameters():
            parameter.grad.clamp_(-1e-3, 1e-3)


class OwnZeroGrad(SGD):
    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none=False)


def train(module=FashionClassifier, **kwargs):
    """A fit of 10 steps an epoch; returns the trainer and the folder of the run."""
    seed_everything(0)
    trainer = create_trainer(**{"max_epochs": 2, **CPU, **kwargs})
    trainer.fit(module(), datamodule=tiny_data())
    return trainer, Path(trainer.default_root_dir)


def uses_fast_path(trainer):
    loop = trainer.fit_loop.epoch_loop
    return isinstance(loop, FastEpochLoop) and loop.use_fast_path


def optimized_by(optimizer, lr=0.1, **kwargs):
    optimizer_with_rate = functools.partial(optimizer, lr=lr)
    return functools.partial(FashionClassifier, optimizer=optimizer_with_rate, **kwargs)


@pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`")
@pytest.mark.parametrize(
    ("module", "options"),
    [
        (FashionClassifier, {}),
        (DictOrNothing, {}),
        (EpochSchedules, {"max_epochs": 3}),
        (functools.partial(EpochSchedules, plateau=True), {"max_epochs": 3}),
        (FashionClassifier, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}),
        (FashionClassifier, {"precision": "bf16-mixed"}),
        (FashionClassifier, {"precision": "64-true"}),
        (FashionClassifier, {"max_steps": 14, "val_check_interval": 4}),
        (FashionClassifier, {"limit_train_batches": 7, "num_sanity_val_steps": 2}),
        (FashionClassifier, {"max_epochs": 3, "check_val_every_n_epoch": 2}),
        (optimized_by(ClosureWithoutLoss, lr_schedule="constant"), {}),
        (optimized_by(LBFGS, lr=1e-4, channels_last=False), {}),
    ],
    ids=[
        *("default", "dict or nothing", "by epoch", "on a plateau", "clipping", "bf16", "64 bit"),
        *("max_steps", "limit", "every 2 epochs", "closure", "LBFGS"),
    ],
)
def test_results_and_hooks_equal_those_of_lightnings_steps(module, options):
    runs, calls = [], []
    for fast_loop in (True, False):
        steps = Steps()
        trainer, folder = train(module, fast_loop=fast_loop, callbacks=steps, **options)
        assert uses_fast_path(trainer) == fast_loop
        runs.append(folder)
        calls.append(steps.calls)
    assert_same_run(*runs)
    assert len(calls[0]) >= 2 * 10
    assert calls[0] == calls[1]


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (BatchOnly, {}),
        (ManualOptimization, {}),
        (OwnClipping, {}),
        (optimized_by(OwnZeroGrad), {}),
        (FashionClassifier, {"callbacks": LambdaCallback(on_after_backward=lambda *_: None)}),
        (FashionClassifier, {"accumulate_grad_batches": 2}),
        (FashionClassifier, {"profiler": "simple"}),
    ],
    ids=["batch only", "manual", "clipping", "zero_grad", "hook", "accumulate", "profiler"],
)
def test_what_the_fast_loop_does_not_know_runs_lightnings_steps(module, options):
    trainer, _ = train(module, **options)
    assert isinstance(trainer.fit_loop.epoch_loop, FastEpochLoop)
    assert not uses_fast_path(trainer)
    assert trainer.global_step == 20 // options.get("accumulate_grad_batches", 1)


class Failure(Callback):
    def on_validation_start(self, trainer, pl_module):
        raise OSError("failure")


def fit_briefly(fails):
    """References to all large objects of a fit."""
    trainer = create_trainer(
        **CPU, max_epochs=1, limit_train_batches=2, logger=False, enable_checkpointing=False,
        callbacks=[Failure()] if fails else [],
    )  # fmt: skip
    module, data = FashionClassifier(), tiny_data()
    with contextlib.suppress(OSError):
        trainer.fit(module, datamodule=data)
    return [weakref.ref(item) for item in (trainer, module, data)]


@pytest.mark.slow
def test_thirty_fits_need_no_more_memory_than_five():
    process, sizes = psutil.Process(), []
    for _ in range(30):
        fit_briefly(fails=False)
        sizes.append(process.memory_info().rss / 2**20)
    assert sizes[-1] - sizes[4] < 50  # MiB; what Lightning caches grows by 10


def test_fits_of_a_process_are_freed():
    """Also one that fails."""
    references = []
    for fails in (False, True, False, True, False):
        references += fit_briefly(fails)
    gc.collect()
    assert not any(reference() for reference in references)


def test_batches_from_another_device_are_moved():
    strategy = SingleDeviceStrategy(device=torch.device("meta"))  # stands for a GPU
    batch = (torch.ones(2), torch.ones(2))
    moved = to_device(batch, strategy)
    assert [item.device.type for item in moved] == ["meta", "meta"]
    assert to_device(moved, strategy) is moved
    assert to_device({"images": batch[0]}, strategy)["images"].device.type == "meta"


def test_batches_have_the_precision_of_the_trainer():
    types = []
    callback = LambdaCallback(on_train_batch_start=lambda *args: types.append(args[2][0].dtype))
    images, labels = torch.rand(100, 28, 28), torch.arange(100) % 10
    trainer = create_trainer(precision="64-true", max_epochs=1, logger=False, callbacks=callback)
    loader = DataLoader(TensorDataset(images, labels), batch_size=50)
    trainer.fit(FashionClassifier(), loader, loader)
    assert uses_fast_path(trainer)
    assert types == [torch.float64, torch.float64]
