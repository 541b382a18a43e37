"""Writes down what ``predict`` answers."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fmnist_lightning.dataset import CLASSES, Batch
from fmnist_lightning.report import say


class PredictionWriter(Callback):
    """Writes the predictions as CSV: index, label, prediction, and a probability for each class.

    Args:
        path: The file to write; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[list[Any]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses to run on several devices, where each would see only its share.

        Raises:
            ValueError: If there are several.
        """
        if trainer.world_size > 1:
            raise ValueError(f"predict runs on one device, not on {trainer.world_size}")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Takes the answers to one batch: probabilities, shape (N, 10)."""
        answers = outputs.argmax(dim=1).tolist()
        for label, answer, row in zip(batch[1].tolist(), answers, outputs.tolist(), strict=True):
            probabilities = [f"{probability:.6f}" for probability in row]
            self.rows.append([len(self.rows), CLASSES[label], CLASSES[answer], *probabilities])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        if self.path is None:
            return
        with self.path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["index", "label", "prediction", *CLASSES])
            writer.writerows(self.rows)
        say(f"{len(self.rows):,} predictions written to {os.path.relpath(self.path)}")
