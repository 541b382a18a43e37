"""Callbacks: what a run prints, and the seed of each epoch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fmnist_lightning.data.dataset import global_seed
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write
from fmnist_lightning.training.module import FashionClassifier
from fmnist_lightning.training.summary import compute_summary, format_metrics


class SeedEachEpoch(Callback):
    """Seeds augmentation and dropout by run seed, epoch and rank alone.

    A resumed run then draws the same numbers as one that was never stopped.
    """

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds before the first step; a DataLoader draws before it, and not in every epoch."""
        if batch_idx == 0 and (seed := global_seed()) is not None:
            torch.manual_seed((seed << 32) + (trainer.current_epoch << 12) + trainer.global_rank)


class EpochSummary(Callback):
    """Prints loss and accuracy of each epoch, and whether the validation loss improved."""

    def __init__(self) -> None:
        self.best_loss = float("inf")
        self.validated = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the network and its number of parameters."""
        assert isinstance(pl_module, FashionClassifier)
        num = sum(weight.numel() for weight in pl_module.network.parameters())
        if trainer.is_global_zero:
            print_line(f"{type(pl_module.network).__name__}, {num:,} parameters")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that this epoch was validated; not every epoch has to be."""
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints one line."""
        assert isinstance(pl_module, FashionClassifier)
        train = pl_module.compute_metrics("train")
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        line = f"epoch {trainer.current_epoch + 1:>2}{of}"
        if train:  # a training_step of one's own may keep no outputs
            line += f"  train loss {train['loss']:.4f} acc {100 * train['acc']:5.2f} %"
        if self.validated:
            self.validated = False
            val = pl_module.val_metrics.compute()
            loss = val["loss"].item()
            line += f"  val loss {loss:.4f} acc {100 * val['acc']:5.2f} %"
            if loss < self.best_loss:
                first = self.best_loss == float("inf")
                line += "  improved" + ("" if first else f" from {self.best_loss:.4f}")
                self.best_loss = loss
        if trainer.is_global_zero:
            print_line(line)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says why a run ends early."""
        for callback in trainer.early_stopping_callbacks:
            if callback.stopping_reason_message and trainer.is_global_zero:
                print_line(f"Stopped early: {callback.stopping_reason_message}")

    def state_dict(self) -> dict[str, Any]:
        """The lowest validation loss so far."""
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the lowest validation loss of a resumed run."""
        self.best_loss = state_dict["best_loss"]


class EvaluationSummary(Callback):
    """Prints the metrics of ``validate`` and ``test``, and writes them, unrounded, as JSON.

    The files are ``validate.json`` and ``test.json`` in ``run_dir``; None writes nothing.
    """

    def __init__(self, run_dir: Path | None) -> None:
        self.run_dir = run_dir

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports ``validate``; during ``fit``, :class:`EpochSummary` does."""
        assert isinstance(pl_module, FashionClassifier)
        if trainer.state.fn == "validate":
            self._report(trainer, "validate", pl_module.val_metrics.compute(), pl_module.classes)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports ``test``."""
        assert isinstance(pl_module, FashionClassifier)
        self._report(trainer, "test", pl_module.test_metrics.compute(), pl_module.classes)

    def _report(
        self, trainer: Trainer, name: str, metrics: dict[str, Tensor], classes: Sequence[str]
    ) -> None:
        if not trainer.is_global_zero:
            return
        summary = compute_summary(metrics, classes)
        if self.run_dir:  # before the lines, whose reader may be gone
            with atomic_write(self.run_dir / f"{name}.json") as stream:
                stream.write((json.dumps(summary, indent=2) + "\n").encode())
        print_line(format_metrics(name, summary))
