"""Stops a run whose loss or weights are not finite."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override


class NonFiniteError(FloatingPointError):  # which scripts can catch
    """The loss or a weight is NaN or infinite; the message names the step."""

    def __init__(self, name: str, step: int, trainer: Trainer) -> None:
        super().__init__(
            f"the {name} became NaN or infinite at step {step:,} (epoch "
            f"{trainer.current_epoch + 1}); no checkpoint was saved after that. A lower "
            "--model.optimizer.lr may help"
        )


def find_non_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity, if there is one."""
    return next((name for name, weight in weights.items() if not weight.isfinite().all()), None)


class TerminateOnNonFinite(Callback):
    """Stops a run whose loss is not finite, on all ranks, before a checkpoint of it is saved.

    Losses stay on their device until a logging step, a validation or a checkpoint, which check all
    of them together, so that no step waits for the device.
    """

    def __init__(self) -> None:
        self.losses: list[Tensor] = []  # since the last check, one per step

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs and "loss" in outputs:  # not of a step that is skipped, or optimizes manually
            self.losses.append(outputs["loss"])
        if len(self.losses) >= (trainer.log_every_n_steps or 100):  # type: ignore[attr-defined]
            self._check(trainer)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer)

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._check(trainer)
        # The last step may have broken only the weights.
        if (name := find_non_finite(checkpoint["state_dict"])) is not None:
            raise NonFiniteError(f"weights {name}", trainer.global_step, trainer)

    def _check(self, trainer: Trainer) -> None:
        if not self.losses:
            return
        is_bad = ~torch.stack(self.losses).isfinite()
        num, self.losses = len(is_bad), []
        first = torch.where(is_bad.any(), is_bad.int().argmax(), num)
        index = int(trainer.strategy.reduce(first, reduce_op="min"))  # over all ranks
        if index < num:
            raise NonFiniteError("loss", trainer.global_step - num + index + 1, trainer)
