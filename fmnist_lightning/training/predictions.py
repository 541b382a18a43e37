"""The output of ``predict`` for the test images."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fmnist_lightning.data.dataset import Batch
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write
from fmnist_lightning.training.module import FashionClassifier


class PredictionWriter(Callback):
    """Writes ``predictions.csv``: index, label, prediction, and a probability for each class.

    Without a ``run_dir``, nothing is written. The image with number ``index`` is also shown.
    """

    def __init__(self, run_dir: Path | None, index: int | None = None) -> None:
        self.run_dir = run_dir
        self.index = index
        self.rows: list[list[Any]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the index before any work."""
        num = len(trainer.predict_dataloaders.dataset)  # type: ignore[union-attr]
        if self.index is not None and not 0 <= self.index < num:
            raise ValueError(f"--index must be 0 to {num - 1}, not {self.index}")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stores the probabilities of a batch, shape (N, C), and shows the chosen image."""
        assert isinstance(pl_module, FashionClassifier)
        classes, (images, labels) = pl_module.classes, batch
        for image, label, row in zip(images, labels.tolist(), outputs.float(), strict=True):
            if len(self.rows) == self.index:
                self._show(image, label, row, classes)
            names = [classes[label], classes[int(row.argmax())]]
            self.rows.append([len(self.rows), *names, *(f"{p:.6f}" for p in row.tolist())])

    def _show(self, image: Tensor, label: int, row: Tensor, classes: Sequence[str]) -> None:
        confidence, predicted = row.max(dim=0)
        title = (
            f"test image {self.index}: predicted {classes[int(predicted)]} "
            f"{100 * float(confidence):.1f} %, label {classes[label]}"
        )
        print_line(title)
        if self.run_dir is not None:
            from fmnist_lightning.figures import plot_prediction

            path = self.run_dir / f"image-{self.index}.png"
            figure = plot_prediction(image.cpu(), row.cpu(), label, classes, title)
            with atomic_write(path) as stream:
                figure.savefig(stream, format="png")
            print_line(f"saved to {os.path.relpath(path)}")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        assert isinstance(pl_module, FashionClassifier)
        if self.index is not None and self.index >= len(self.rows):
            raise ValueError(
                f"only {len(self.rows)} images were predicted, not --index {self.index}"
            )
        if self.run_dir is None:
            return
        path = self.run_dir / "predictions.csv"
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["index", "label", "prediction", *pl_module.classes])
        writer.writerows(self.rows)
        with atomic_write(path) as stream:
            stream.write(text.getvalue().encode())
        print_line(f"{len(self.rows):,} predictions written to {os.path.relpath(path)}")
