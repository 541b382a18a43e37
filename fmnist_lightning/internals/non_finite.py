"""Stops a run whose loss or weights are not finite."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

HINT = "no later checkpoint was saved. A lower --model.optimizer.lr may help"


class NonFiniteError(RuntimeError):
    """The loss or a weight is NaN or infinite; the message says since when."""


def find_non_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity, if there is one."""
    return next((name for name, each in weights.items() if not each.isfinite().all()), None)


class TerminateOnNonFinite(Callback):
    """Stops a run whose loss is not finite, before a checkpoint of it is saved.

    Losses stay on their device until a logging step, a validation or a checkpoint, which check all
    of them together, so that no step waits for the device. In a distributed run, all ranks stop.
    """

    def __init__(self) -> None:
        self.losses: list[Tensor] = []  # since the last check, one per step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stores the loss, and checks all stored ones in logging steps."""
        self.losses.append(outputs["loss"])
        every: int = trainer.log_every_n_steps or 100  # type: ignore[attr-defined]
        if len(self.losses) >= every:
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the losses before a validation, which may save a checkpoint."""
        self._check(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Checks the losses and the weights: the last step may have broken only the weights.

        Raises:
            NonFiniteError: If one of them is not finite.
        """
        self._check(trainer)
        if (name := find_non_finite(checkpoint["state_dict"])) is not None:
            raise NonFiniteError(
                f"after step {trainer.global_step:,}, the weights {name} are not finite; {HINT}"
            )

    def _check(self, trainer: Trainer) -> None:
        """Raises if a stored loss is not finite, on any rank."""
        if not self.losses:
            return
        bad = ~torch.stack(self.losses).isfinite()
        num, self.losses = len(bad), []
        first = torch.where(bad.any(), bad.int().argmax(), num)
        index = int(trainer.strategy.reduce(first, reduce_op="min"))  # over all ranks
        if index < num:
            raise NonFiniteError(
                f"from step {trainer.global_step - num + index + 1:,} on, in epoch "
                f"{trainer.current_epoch + 1}, the loss is not finite; {HINT}"
            )
