"""The output of ``predict`` for the test images."""

import codecs
import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

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

    @override
    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        num = len(trainer.predict_dataloaders.dataset)  # type: ignore[union-attr]
        if self.index is not None and not 0 <= self.index < num:
            raise ValueError(f"--index must be 0 to {num - 1}, not {self.index}")

    @override
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
        for image, label, probabilities in zip(images, labels.tolist(), outputs, strict=True):
            if len(self.rows) == self.index:
                self._show(image.cpu(), label, probabilities.cpu(), classes)
            names = [classes[label], classes[int(probabilities.argmax())]]
            texts = [f"{probability:.6f}" for probability in probabilities.tolist()]
            self.rows.append([len(self.rows), *names, *texts])

    def _show(
        self, image: Tensor, label: int, probabilities: Tensor, classes: tuple[str, ...]
    ) -> None:
        confidence, predicted = probabilities.max(dim=0)
        title = (
            f"test image {self.index}: predicted {classes[int(predicted)]} "
            f"{100 * float(confidence):.1f} %, label {classes[label]}"
        )
        print_line(title)
        if self.run_dir is not None:
            from fmnist_lightning.figures import plot_prediction

            path = self.run_dir / f"image-{self.index}.png"
            figure = plot_prediction(image, probabilities, label, classes, title)
            with atomic_write(path) as stream:
                figure.savefig(stream, format="png")
            print_line(f"saved to {os.path.relpath(path)}")

    @override
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FashionClassifier)
        if self.run_dir is not None:
            path = self.run_dir / "predictions.csv"
            with atomic_write(path) as stream:
                writer = csv.writer(codecs.getwriter("utf-8")(stream))
                writer.writerow(["index", "label", "prediction", *pl_module.classes])
                writer.writerows(self.rows)
            print_line(f"{len(self.rows):,} predictions written to {os.path.relpath(path)}")
