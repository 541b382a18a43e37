"""Lightning's loop over an epoch with a faster step. Not a model to copy."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.optimization.automatic import Closure, ClosureResult
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy, Strategy
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from fmnist_lightning.internals.loop_fixes import CorrectedEpochLoop

# The hooks of a training step, except those that this loop calls.
CALLBACK_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
DATA_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
MODULE_HOOKS = (
    *CALLBACK_HOOKS,
    *DATA_HOOKS,
    "configure_gradient_clipping",
    "on_train_batch_start",
    "on_train_batch_end",
    "optimizer_step",
    "optimizer_zero_grad",
)


class NotingResults(_ResultCollection):
    """What is logged in a training epoch, and whether there is anything new since a step began."""

    is_new = False

    @override
    def log(self, *args: Any, **kwargs: Any) -> None:
        self.is_new = True
        super().log(*args, **kwargs)


class FastEpochLoop(CorrectedEpochLoop):
    """Runs the steps of a training epoch without the hooks that do nothing.

    Lightning calls over a hundred hooks in each step, most of them empty, which takes a third of
    the time of a small network. This loop finds out at the start of each epoch which hooks do
    anything, and calls only those. Progress, logging, checkpoints and results are bit-identical.

    An epoch that needs more than this loop knows, such as several devices, accumulated gradients,
    a profiler, manual optimization, or hooks before the optimizer step, runs Lightning's own steps.
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self._results: NotingResults = NotingResults(training=True)
        self.use_fast_path = False
        self.is_val_epoch: bool | None = None  # of the latest epoch, from its start on
        self.start_hooks: list[Callable[..., None]] = []
        self.end_hooks: list[Callable[..., None]] = []

    @override
    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Decides how to run the steps of this epoch."""
        super().on_run_start(data_fetcher)
        trainer, module = self.trainer, self.trainer.lightning_module
        data = trainer.datamodule or LightningDataModule()  # none where fit got data loaders
        parts: list[tuple[object, type, tuple[str, ...]]] = [
            (module, LightningModule, MODULE_HOOKS),
            (data, LightningDataModule, DATA_HOOKS),
            *((callback, Callback, CALLBACK_HOOKS) for callback in trainer.callbacks),
            *((optimizer, Optimizer, ("zero_grad",)) for optimizer in trainer.optimizers),
        ]
        has_other_hooks = any(
            is_overridden(part, base, name) for part, base, names in parts for name in names
        )
        self.is_val_epoch = super()._should_check_val_epoch()
        self.use_fast_path = (
            type(trainer.strategy) is SingleDeviceStrategy
            and trainer.scaler is None  # of precision 16-mixed
            and module.automatic_optimization
            and "batch_idx" in self._build_kwargs(OrderedDict(), batch=None, batch_idx=0)
            and trainer.accumulate_grad_batches == 1
            and isinstance(trainer.profiler, PassThroughProfiler)
            and not any(
                config.reduce_on_plateau and config.interval == "step"
                for config in trainer.lr_scheduler_configs
            )
            and not has_other_hooks
        )
        self.start_hooks, self.end_hooks = (
            [getattr(c, name) for c in trainer.callbacks if is_overridden(c, Callback, name)]
            for name in ("on_train_batch_start", "on_train_batch_end")
        )

    @override
    def advance(self, data_fetcher: _DataFetcher) -> None:
        trainer, module = self.trainer, self.trainer.lightning_module
        if not self.use_fast_path or self.restarting:
            super().advance(data_fetcher)
            return
        connector, results, progress = trainer._logger_connector, self._results, self.batch_progress
        batch = trainer.precision_plugin.convert_input(next(data_fetcher)[0])
        batch = to_device(batch, trainer.strategy)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        # As in `on_batch_start` of the connector.
        connector._first_loop_iter = connector._first_loop_iter is None
        results.batch, results.batch_size, results.is_new = batch, None, False
        self._call(module, self.start_hooks, "on_train_batch_start", batch, batch_idx)
        progress.increment_started()

        outputs = self._optimize(module, batch, batch_idx)

        progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self._call(module, self.end_hooks, "on_train_batch_end", outputs, batch, batch_idx)
        if results.is_new:
            connector.on_batch_end()
        results.batch = None
        progress.increment_completed()
        if results:  # there is anything to log
            connector.update_train_step_metrics()

    @override
    def update_lr_schedulers(self, interval: str, update_plateau_schedulers: bool) -> None:
        if not self.use_fast_path or interval != "step":
            super().update_lr_schedulers(interval, update_plateau_schedulers)
        elif not update_plateau_schedulers:  # there are none that step on a plateau
            for config in self.trainer.lr_scheduler_configs:
                if config.interval == "step" and (self.batch_idx + 1) % config.frequency == 0:
                    self.scheduler_progress.increment_ready()
                    self.trainer.lightning_module.lr_scheduler_step(config.scheduler, None)
                    self.scheduler_progress.increment_completed()

    @override
    def _should_check_val_epoch(self) -> bool:
        known = self.is_val_epoch  # so that no step has to find out
        return super()._should_check_val_epoch() if known is None else known

    def _optimize(self, module: LightningModule, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Forward pass, backward pass and optimizer step; returns the loss and other outputs."""
        trainer, optimizer = self.trainer, self.trainer.optimizers[0]
        progress = self.automatic_optimization.optim_progress.optimizer
        state, context = vars(module), trainer.precision_plugin.train_step_context
        loss: Tensor | None = None
        others: dict[str, Any] = {}

        def closure() -> Tensor | None:
            nonlocal loss, others
            state["_current_fx_name"] = "training_step"  # lets it log
            with torch.enable_grad():
                with context():
                    output = module.training_step(batch, batch_idx)
                state["_current_fx_name"] = None
                if isinstance(output, Tensor):
                    loss = output
                else:  # a dict, or None to skip the step
                    result = Closure(lambda: ClosureResult.from_training_step_output(output))
                    loss, others = result.closure().closure_loss, dict(output or {})
                progress.zero_grad.increment_ready()
                progress.zero_grad.increment_started()
                # `zero_grad` without its profiling, which takes longer than all the rest of it.
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.grad = None
                progress.zero_grad.increment_completed()
                if loss is not None:
                    module.backward(loss)
            if trainer.gradient_clip_val:
                module.configure_gradient_clipping(
                    optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
                )
            return loss

        progress.step.increment_ready()
        optimizer.step(closure)
        progress.step.increment_completed()
        return {} if loss is None else {**others, "loss": loss.detach()}

    def _call(
        self, module: LightningModule, hooks: list[Callable[..., None]], name: str, *args: Any
    ) -> None:
        # Without ``nn.Module.__setattr__``, which takes a twentieth of a small step.
        state = vars(module)
        state["_current_fx_name"] = name
        for hook in hooks:
            hook(self.trainer, module, *args)
        state["_current_fx_name"] = None


def to_device(batch: Any, strategy: Strategy) -> Any:
    """A batch of tensors on the device of a strategy, where those of our data modules are."""
    device = strategy.root_device
    if device.type == "cpu" or all(getattr(item, "device", None) == device for item in batch):
        return batch
    return strategy.batch_to_device(batch)


def is_overridden(instance: object, base: type, method: str) -> bool:
    """Whether the class of ``instance``, or the instance itself, overrides ``method``."""
    attribute = getattr(instance, method)
    return getattr(attribute, "__func__", attribute) is not getattr(base, method)
