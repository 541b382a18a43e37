import contextlib
import copy
import functools
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import psutil
import pytest
import torch
from comparing import assert_same_run
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from samples import tiny_data
from torch import Tensor
from torch.optim import LBFGS, SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lightning import FashionClassifier, SmallResNet, create_trainer
from fmnist_lightning.internals.fast_loop import FastEpochLoop, to_device

pytestmark = pytest.mark.usefixtures("data_dir")
CPU: dict[str, Any] = {"accelerator": "cpu", "num_threads": 1, "log_every_n_steps": 5}


class Steps(Callback):
    """Records steps, and logs a value in each of them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.calls.append(("start", batch_idx, trainer.global_step, len(batch[1]), rate))
        pl_module.log("mine", float(batch_idx))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.calls.append(("end", batch_idx, trainer.global_step, float(outputs["loss"])))


class ClosureWithoutLoss(SGD):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        closure()
        super().step()


class EpochSchedules(FashionClassifier):
    """Halves the learning rate in each epoch, or where the validation loss does not improve."""

    def __init__(self, plateau: bool = False) -> None:
        super().__init__()
        self.plateau = plateau

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = SGD(self.parameters(), lr=0.1)
        if not self.plateau:
            return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=100)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"},
        }


class StepOfYourOwn(FashionClassifier):
    """Trains by steps in one of the forms that Lightning takes; counts those of the optimizer."""

    def __init__(self) -> None:
        super().__init__(functools.partial(SmallResNet, channels=[8]), lr_schedule="constant")
        self.num_optimizer_steps = 0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = SGD(self.parameters(), lr=0.1)
        optimizer.register_step_post_hook(self.count)
        return optimizer

    def count(self, *_: Any) -> None:
        self.num_optimizer_steps += 1

    def loss(self, batch: Any) -> Tensor:
        loss, logits = self.training_loss(*batch)
        self.train_outputs.append((batch[1], logits.detach()))
        return loss


class DictStep(StepOfYourOwn):
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:  # type: ignore[override]
        return {"loss": self.loss(batch), "mine": batch_idx}


class SkippedStep(StepOfYourOwn):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:  # type: ignore[override]
        return self.loss(batch) if batch_idx % 3 else None


class BatchOnlyStep(StepOfYourOwn):
    def training_step(self, batch: Any) -> Tensor:  # type: ignore[override]
        return self.loss(batch)


class IteratorStep(StepOfYourOwn):
    def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        return self.training_loss(*next(dataloader_iter)[0])[0]


class ManualStep(StepOfYourOwn):
    first_manual_step = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:  # type: ignore[override]
        if batch_idx < self.first_manual_step:
            return self.loss(batch)
        self.automatic_optimization = False
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()
        return None


class AlwaysManualStep(ManualStep):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:  # type: ignore[override]
        super().training_step(batch, batch_idx)
        return {"mine": batch_idx}


class LateManualStep(ManualStep):
    first_manual_step = 4


class OwnClipping(StepOfYourOwn):
    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        for parameter in self.parameters():
            assert parameter.grad is not None
            parameter.grad.clamp_(-1e-3, 1e-3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)


def train(
    module: Callable[[], FashionClassifier] = FashionClassifier, **kwargs: Any
) -> tuple[Trainer, Path]:
    """A fit of 10 steps an epoch; returns the trainer and the folder of the run."""
    seed_everything(0)
    trainer = create_trainer(**{"max_epochs": 2, **CPU, **kwargs})
    trainer.fit(module(), datamodule=tiny_data())
    return trainer, Path(trainer.default_root_dir)


def uses_fast_path(trainer: Trainer) -> bool:
    loop = trainer.fit_loop.epoch_loop
    return isinstance(loop, FastEpochLoop) and loop.use_fast_path


def sgd(**kwargs: Any) -> Callable[[], FashionClassifier]:
    optimizer = functools.partial(kwargs.pop("cls", SGD), lr=kwargs.pop("lr", 0.1))
    return functools.partial(FashionClassifier, optimizer=optimizer, **kwargs)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (FashionClassifier, {}),
        (functools.partial(FashionClassifier, functools.partial(SmallResNet, channels=[8])), {}),
        (sgd(lr_schedule="constant"), {}),
        (EpochSchedules, {"max_epochs": 3}),
        (functools.partial(EpochSchedules, plateau=True), {"max_epochs": 3}),
        (FashionClassifier, {"gradient_clip_val": 0.1}),
        (
            FashionClassifier,
            {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        ),
        (FashionClassifier, {"precision": "bf16-mixed"}),
        (FashionClassifier, {"precision": "64-true"}),
        (FashionClassifier, {"max_steps": 14, "val_check_interval": 4}),
        (FashionClassifier, {"limit_train_batches": 7, "num_sanity_val_steps": 2}),
        (FashionClassifier, {"max_epochs": 3, "check_val_every_n_epoch": 2}),
        (sgd(cls=ClosureWithoutLoss), {}),
        (sgd(cls=LBFGS, lr=1e-4, channels_last=False), {}),
    ],
    ids=[
        *("default", "ResNet", "SGD", "by epoch", "on a plateau", "clip by norm", "clip by value"),
        *("bf16", "64 bit", "max_steps", "limit", "every 2 epochs", "closure", "LBFGS"),
    ],
)
def test_results_and_hooks_equal_those_of_lightnings_steps(
    module: Callable[[], FashionClassifier], options: dict[str, Any]
) -> None:
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


class Outputs(Callback):
    """Records what the hook after a step gets."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.outputs.append({key: float(value) for key, value in outputs.items()})


@pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`")
@pytest.mark.filterwarnings("ignore:.*`dataloader_iter`")
@pytest.mark.parametrize(
    ("module", "num_optimizer_steps"),
    [
        (DictStep, 20),
        (SkippedStep, 20),  # without gradients, where they are skipped
        (BatchOnlyStep, 20),
        (IteratorStep, 20),
        (ManualStep, 21),  # Lightning optimizes the first of them again, without gradients
        (AlwaysManualStep, 20),
        (LateManualStep, 17),
        (OwnClipping, 20),
    ],
)
def test_steps_of_your_own_equal_those_of_lightning(
    module: Callable[[], StepOfYourOwn], num_optimizer_steps: int
) -> None:
    runs, records = [], []
    for fast_loop in (True, False):
        outputs = Outputs()
        trainer, folder = train(module, fast_loop=fast_loop, callbacks=outputs)
        classifier: Any = trainer.lightning_module
        assert classifier.num_optimizer_steps == num_optimizer_steps
        assert trainer.fit_loop.epoch_loop.total_batch_idx == 19
        runs.append(folder)
        records.append(outputs.outputs)
    assert_same_run(*runs)
    assert len(records[0]) == 20
    assert records[0] == records[1]


@pytest.mark.parametrize("plateau", [False, True])
def test_schedulers_by_epoch_are_stepped(plateau: bool) -> None:
    steps = Steps()
    train(functools.partial(EpochSchedules, plateau), max_epochs=3, callbacks=steps)
    rates = [call[-1] for call in steps.calls if call[0] == "start"]
    assert rates == [rate for rate in (0.1, 0.05, 0.025) for _ in range(10)]


def test_sanity_validation_steps_are_run() -> None:
    steps: list[int] = []
    callback = LambdaCallback(
        on_validation_batch_start=lambda trainer, *_: steps.append(trainer.sanity_checking)
    )
    train(num_sanity_val_steps=1, max_epochs=1, callbacks=callback)
    assert steps == [True, False]


@pytest.mark.parametrize(
    "options",
    [
        {"callbacks": LambdaCallback(on_after_backward=lambda *_: None)},
        {"accumulate_grad_batches": 2},
        {"profiler": "simple"},
    ],
    ids=["hook", "accumulate", "profiler"],
)
def test_unsupported_settings_use_lightnings_steps(options: dict[str, Any]) -> None:
    trainer, _ = train(**copy.copy(options))
    assert isinstance(trainer.fit_loop.epoch_loop, FastEpochLoop)
    assert not uses_fast_path(trainer)
    assert trainer.global_step == 20 // options.get("accumulate_grad_batches", 1)


def test_hooks_set_on_a_callback_instance_are_called() -> None:
    ends: list[int] = []
    backwards: list[int] = []
    callback = LambdaCallback(
        on_train_batch_end=lambda *_: ends.append(1),
        on_after_backward=lambda *_: backwards.append(1),
    )
    train(callbacks=callback)
    assert len(ends) == len(backwards) == 20


def test_unknown_lightning_uses_its_own_loop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lightning, "__version__", "2.7.0")
    trainer, _ = train(max_epochs=1)
    assert type(trainer.fit_loop) is _FitLoop
    assert "Lightning 2.7.0" in capsys.readouterr().out


class Failure(Callback):
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise OSError("failure")


def fit_briefly(fails: bool) -> list[weakref.ref[Any]]:
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
def test_thirty_fits_need_no_more_memory_than_five() -> None:
    process, sizes = psutil.Process(), []
    for _ in range(30):
        fit_briefly(fails=False)
        sizes.append(process.memory_info().rss / 2**20)
    assert sizes[-1] - sizes[4] < 50  # MiB; what Lightning caches grows by 10


def test_fits_of_a_process_are_freed() -> None:
    """Also one that fails."""
    references: list[weakref.ref[Any]] = []
    for fails in (False, True, False, True, False):
        references += fit_briefly(fails)
    gc.collect()
    assert not any(reference() for reference in references)


def test_batches_from_another_device_are_moved() -> None:
    strategy = SingleDeviceStrategy(device=torch.device("meta"))  # stands for a GPU
    batch = (torch.ones(2), torch.ones(2))
    moved = to_device(batch, strategy)
    assert [item.device.type for item in moved] == ["meta", "meta"]
    assert to_device(moved, strategy) is moved
    assert to_device({"images": batch[0]}, strategy)["images"].device.type == "meta"


def test_batches_have_the_precision_of_the_trainer() -> None:
    types: list[torch.dtype] = []
    callback = LambdaCallback(on_train_batch_start=lambda *args: types.append(args[2][0].dtype))
    images, labels = torch.rand(100, 28, 28), torch.arange(100) % 10
    trainer = create_trainer(precision="64-true", max_epochs=1, logger=False, callbacks=callback)
    loader = DataLoader(TensorDataset(images, labels), batch_size=50)
    trainer.fit(FashionClassifier(), loader, loader)
    assert uses_fast_path(trainer)
    assert types == [torch.float64, torch.float64]
