"""Lightning's loops with a faster step and an exact resume. Not a model to copy."""

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

# The hooks of a training step, except those that this loop calls.
CALLBACK_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
MODULE_HOOKS = (
    *CALLBACK_HOOKS,
    "on_train_batch_start",
    "on_train_batch_end",
    "optimizer_step",
    "optimizer_zero_grad",
)
DATA_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
# From malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


class FitLoop(_FitLoop):
    """Lightning's loop over epochs, with the faster steps of :class:`FastEpochLoop`.

    Assign it to ``trainer.fit_loop``.
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer, trainer.min_epochs, trainer.max_epochs)
        self.epoch_loop = FastEpochLoop(trainer)

    def _iteration_based_training(self) -> bool:
        """Where it is true, with ``max_steps``, Lightning ends the epoch of a checkpoint twice."""
        return False


class FastEpochLoop(_TrainingEpochLoop):
    """Runs the steps of a training epoch without the hooks that do nothing.

    Lightning calls over a hundred hooks in each step, most of them empty, which takes a third of
    the time of a small network. This loop finds out at the start of each epoch which hooks do
    anything, and calls only those. Progress, logging, checkpoints and results are bit-identical,
    but for a validation at the end of each run, which Lightning lacks where ``max_steps`` or
    ``check_val_every_n_epoch`` do not fall on it.

    An epoch that needs more than this loop knows, such as several devices, accumulated gradients,
    a profiler, or hooks between forward pass and optimiser step, runs Lightning's own steps.
    Batches must already be on the device.
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer, trainer.min_steps, trainer.max_steps)
        self.use_fast_path = False
        self.start_hooks: list[Callable[..., None]] = []
        self.end_hooks: list[Callable[..., None]] = []

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Decides how to run the steps of this epoch."""
        super().on_run_start(data_fetcher)
        trainer = self.trainer
        keep_freed_memory()
        if trainer.current_epoch == 0:
            gc.freeze()  # or the garbage collector goes through all modules every few epochs
        data = trainer.datamodule or LightningDataModule()  # none where fit got data loaders
        hooks = [
            *((trainer.lightning_module, LightningModule, hook) for hook in MODULE_HOOKS),
            *((trainer.lightning_module, LightningModule, hook) for hook in DATA_HOOKS),
            *((data, LightningDataModule, hook) for hook in DATA_HOOKS),
            *((each, Callback, hook) for each in trainer.callbacks for hook in CALLBACK_HOOKS),
        ]
        self.use_fast_path = (
            type(trainer.strategy) is SingleDeviceStrategy
            and trainer.scaler is None  # of 16-bit floats
            and trainer.accumulate_grad_batches == 1
            and isinstance(trainer.profiler, PassThroughProfiler)
            and not any(_overrides(*each) for each in hooks)
        )
        self.start_hooks, self.end_hooks = (
            [getattr(each, hook) for each in trainer.callbacks if _overrides(each, Callback, hook)]
            for hook in ("on_train_batch_start", "on_train_batch_end")
        )

    def _should_check_val_epoch(self) -> bool:
        """Lightning's rule, and in the last epoch, so that a run ends with a validation."""
        last = self.trainer.current_epoch + 1 == self.trainer.max_epochs
        return super()._should_check_val_epoch() or (last and self.trainer.enable_validation)

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        """Lightning's rule, and at the end of ``max_steps``, as at that of an early stop."""
        ends = self.global_step == self.max_steps and self._should_check_val_epoch()
        return ends or super()._should_check_val_fx(data_fetcher)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Runs one step."""
        if not self.use_fast_path or self.restarting:
            super().advance(data_fetcher)
            return
        trainer, progress = self.trainer, self.batch_progress
        self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        self._call(self.start_hooks, "on_train_batch_start", batch, batch_idx)
        progress.increment_started()

        loss = self._optimize(batch, batch_idx)

        progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self._call(self.end_hooks, "on_train_batch_end", {"loss": loss}, batch, batch_idx)
        trainer._logger_connector.on_batch_end()
        progress.increment_completed()
        trainer._logger_connector.update_train_step_metrics()

    def _optimize(self, batch: Any, batch_idx: int) -> Tensor:
        """Forward pass, backward pass and optimiser step; returns the loss, shape ()."""
        trainer, module = self.trainer, self.trainer.lightning_module
        optimizer = trainer.optimizers[0]
        progress = self.automatic_optimization.optim_progress.optimizer

        loss: Tensor | None = None

        @torch.enable_grad()
        def closure() -> Tensor:
            nonlocal loss
            module._current_fx_name = "training_step"  # lets it log
            with trainer.precision_plugin.train_step_context():
                loss = module.training_step(batch, batch_idx)
            module._current_fx_name = None
            progress.zero_grad.increment_ready()
            progress.zero_grad.increment_started()
            optimizer.zero_grad()
            progress.zero_grad.increment_completed()
            module.backward(loss)
            if trainer.gradient_clip_val:
                module.configure_gradient_clipping(
                    optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
                )
            return loss

        progress.step.increment_ready()
        optimizer.step(closure)
        progress.step.increment_completed()
        assert loss is not None
        return loss.detach()

    def _call(self, hooks: list[Callable[..., None]], name: str, *args: Any) -> None:
        if not hooks:
            return
        module = self.trainer.lightning_module
        module._current_fx_name = name
        for hook in hooks:
            hook(self.trainer, module, *args)
        module._current_fx_name = None


def keep_freed_memory() -> None:
    """Tells glibc to keep the memory that a step frees for the next step.

    Otherwise it returns most of it, and the kernel clears it anew, which takes a tenth of the
    training time of a residual network. The process keeps its largest memory until it ends. See
    https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return  # not glibc
    if libc.mallopt(M_MMAP_THRESHOLD, 2**25):  # the largest value; it also ends an adaptive rule
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _overrides(instance: object, base: type, method: str) -> bool:
    """Whether the class of ``instance``, or the instance itself, overrides ``method``."""
    own = getattr(instance, method)
    return getattr(own, "__func__", own) is not getattr(base, method)
