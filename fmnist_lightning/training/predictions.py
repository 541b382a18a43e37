"""Writes down what ``predict`` answers."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from fmnist_lightning.data.dataset import CLASSES, Batch
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.tensorboard.figures import plot_prediction


class PredictionWriter(Callback):
    """Writes the predictions as CSV: index, label, prediction, and a probability for each class.

    Args:
        run_dir: The folder for ``predictions.csv``; None writes nothing.
        index: Which picture is also to be shown, by its number.
    """

    def __init__(self, run_dir: Path | None, index: int | None = None) -> None:
        self.run_dir = run_dir
        self.index = index
        self.rows: list[list[Any]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what is not there.

        Raises:
            ValueError: If no picture has the number that is to be shown.
        """
        loader: Any = trainer.predict_dataloaders
        num = len(loader.dataset)
        if self.index is not None and not 0 <= self.index < num:
            raise ValueError(f"--index {self.index}: the test pictures are numbered 0 to {num - 1}")

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
        if self.index is not None and 0 <= self.index - len(self.rows) < len(outputs):
            place = self.index - len(self.rows)
            self._show(batch[0][place].cpu(), int(batch[1][place]), outputs[place].float().cpu())
        answers = outputs.argmax(dim=1).tolist()
        for label, answer, row in zip(batch[1].tolist(), answers, outputs.tolist(), strict=True):
            probabilities = [f"{probability:.6f}" for probability in row]
            self.rows.append([len(self.rows), CLASSES[label], CLASSES[answer], *probabilities])

    def _show(self, image: Tensor, label: int, probabilities: Tensor) -> None:
        """Shows a picture with its answer, as the article's last step does."""
        answer = int(probabilities.argmax())
        chance = float(probabilities[answer])
        text = f"test picture {self.index}: {CLASSES[answer]} {chance:.1%}, label {CLASSES[label]}"
        print_line(text)
        if self.run_dir is not None:
            path = self.run_dir / f"picture-{self.index}.png"
            Image.fromarray(plot_prediction(image, probabilities, label, text).numpy()).save(path)
            print_line(f"shown in {os.path.relpath(path)}")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file.

        Raises:
            ValueError: If the picture to be shown was not reached.
        """
        if self.index is not None and self.index >= len(self.rows):
            raise ValueError(
                f"only {len(self.rows)} pictures were predicted, not --index {self.index}"
            )
        if self.run_dir is None:
            return
        path = self.run_dir / "predictions.csv"
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["index", "label", "prediction", *CLASSES])
            writer.writerows(self.rows)
        print_line(f"{len(self.rows):,} predictions written to {os.path.relpath(path)}")
