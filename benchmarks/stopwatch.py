"""A callback that times the epochs of a `fit` for `speed.py`."""

import time
from typing import Any

from common import write_times
from lightning.pytorch import Callback, LightningModule, Trainer


class Stopwatch(Callback):
    """Times the epochs of a ``fit``; to be the first of the callbacks given.

    An epoch lasts until the next one starts, with its checkpoints and all that is printed. Its
    training part lasts until its validation starts.
    """

    def __init__(self) -> None:
        self.first_batch: float | None = None
        self.epochs: list[dict[str, float]] = []
        self.start = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Keeps the time of the first batch."""
        if self.first_batch is None:
            self.first_batch = time.time()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends an epoch, and starts another."""
        now = time.perf_counter()
        self._end_epoch(now)
        self.epochs.append({})
        self.start = now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the training part."""
        if self.epochs:
            self.validation_start = time.perf_counter()
            self.epochs[-1]["train"] = self.validation_start - self.start

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the validation part."""
        if self.epochs:
            self.epochs[-1]["validation"] = time.perf_counter() - self.validation_start
            self.epochs[-1]["accuracy"] = trainer.callback_metrics["val/acc"].item()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the last epoch, and writes the times."""
        self._end_epoch(time.perf_counter())
        write_times(self.first_batch, self.epochs)

    def _end_epoch(self, now: float) -> None:
        if self.epochs:
            self.epochs[-1]["epoch"] = now - self.start
