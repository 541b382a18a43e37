"""The output of ``predict`` for the test images."""

import codecs
import csv
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from typing_extensions import override

from fmnist_lightning.data.checks import to_uint8
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write


class PredictionWriter(Callback):
    """Writes ``predictions.csv``: index, label, prediction, and a probability for each class.

    Images that were read from files of their own have a column ``file``, below the test folder.
    Without a ``run_dir``, nothing is written. The image with number ``index`` is also shown.
    """

    def __init__(self, run_dir: Path | None, index: int | None = None) -> None:
        self.run_dir = run_dir
        self.index = index
        self.batches: list[list[Tensor]] = []  # images, labels, and probabilities (N, C)

    @override
    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        images, labels = batch
        parts = to_uint8(images), labels, outputs
        self.batches.append([tensor.cpu().clone() for tensor in parts])

    @override
    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        images, labels, probabilities = map(torch.cat, zip(*self.batches, strict=True))
        names = pl_module.classes
        if (index := self.index) is not None:
            if not 0 <= index < len(labels):
                raise ValueError(f"--index must be 0 to {len(labels) - 1}, not {index}")
            self._show(images[index], int(labels[index]), probabilities[index], names)
        if self.run_dir is None:
            return
        path = self.run_dir / "predictions.csv"
        with atomic_write(path) as stream:
            writer = csv.writer(codecs.getwriter("utf-8")(stream, "backslashreplace"))
            files = getattr(trainer.datamodule, "test_files", [])
            writer.writerow(["index", "label", "prediction", *names, *(["file"] if files else [])])
            for number, (label, values) in enumerate(zip(labels, probabilities, strict=True)):
                texts = [f"{value:.6f}" for value in values.tolist()]
                row = [number, names[label], names[values.argmax()], *texts]
                writer.writerow([*row, *files[number : number + 1]])
        print_line(f"{len(labels):,} predictions written to {path}")

    def _show(self, image: Tensor, label: int, probabilities: Tensor, names: Any) -> None:
        confidence, predicted = probabilities.max(dim=0)
        title = (
            f"test image {self.index}: predicted {names[predicted]} {100 * confidence:.1f} %, "
            f"label {names[label]}"
        )
        print_line(title)
        if self.run_dir is not None:
            from fmnist_lightning.figures import plot_prediction

            path = self.run_dir / f"image-{self.index}.png"
            figure = plot_prediction(image, probabilities, label, names, title)
            with atomic_write(path) as stream:
                figure.savefig(stream, format="png")
            print_line(f"saved to {path}")
