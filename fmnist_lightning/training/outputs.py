"""What ``validate``, ``test`` and ``predict`` print, and write into the folder of the run."""

import codecs
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from typing_extensions import override

from fmnist_lightning.data.checks import to_uint8
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write


class EvaluationSummary(Callback):
    """Prints the metrics of ``validate`` and ``test``; writes them, unrounded, into ``run_dir``."""

    def __init__(self, run_dir: Path | None) -> None:
        self.run_dir = run_dir

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self._report(trainer, "validate", pl_module.compute_metrics("val"), pl_module.classes)

    @override
    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._report(trainer, "test", pl_module.compute_metrics("test"), pl_module.classes)

    def _report(
        self, trainer: Trainer, name: str, metrics: dict[str, Tensor], classes: Sequence[str]
    ) -> None:
        if not trainer.is_global_zero or not metrics:  # a step of one's own may keep no outputs
            return
        summary = compute_summary(metrics, classes)
        if self.run_dir:  # before the lines, whose reader may be gone
            with atomic_write(self.run_dir / f"{name}.json") as stream:
                stream.write((json.dumps(summary, indent=2) + "\n").encode())
        print_line(format_metrics(name, summary))


def compute_summary(metrics: dict[str, Tensor], classes: Sequence[str]) -> dict[str, Any]:
    """The metrics of an evaluation as plain numbers, with counts for each class."""
    confusion = metrics["confusion"]
    correct, total = confusion.diagonal().tolist(), confusion.sum(dim=1).tolist()
    return {
        "loss": float(metrics["loss"]),
        "accuracy": sum(correct) / sum(total),
        "correct": sum(correct),
        "total": sum(total),
        "ece": float(metrics["ece"]),
        "classes": {
            name: {"correct": num_correct, "total": num}
            for name, num_correct, num in zip(classes, correct, total, strict=True)
        },
    }


def format_metrics(name: str, summary: dict[str, Any]) -> str:
    """The lines that the terminal shows of a summary."""
    lines = [
        f"{name} loss {summary['loss']:.4f}",
        f"{name} accuracy {100 * summary['accuracy']:.2f} % "
        f"({summary['correct']:,}/{summary['total']:,})",
        f"{name} calibration error {100 * summary['ece']:.2f} %",
    ]
    for class_name, counts in summary["classes"].items():
        correct, total = counts["correct"], counts["total"]
        percent = f"{100 * correct / total:6.2f} %" if total else "     - "
        lines.append(f"  {class_name:<12} {percent} ({correct:,}/{total:,})")
    return "\n".join(lines)


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
        labels = batch[1] if len(batch) > 1 else torch.full((len(outputs),), -1)
        parts = to_uint8(batch[0]), labels, outputs
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
                name = names[label] if label >= 0 else ""  # a loader may give no labels
                row = [number, name, names[values.argmax()], *texts]
                writer.writerow([*row, *files[number : number + 1]])
        print_line(f"{len(labels):,} predictions written to {path}")

    def _show(self, image: Tensor, label: int, probabilities: Tensor, names: Any) -> None:
        confidence, predicted = probabilities.max(dim=0)
        title = f"test image {self.index}: predicted {names[predicted]} {100 * confidence:.1f} %"
        title += f", label {names[label]}" if label >= 0 else ""
        print_line(title)
        if self.run_dir is not None:
            from fmnist_lightning.figures import plot_prediction

            path = self.run_dir / f"image-{self.index}.png"
            figure = plot_prediction(image, probabilities, label, names, title)
            with atomic_write(path) as stream:
                figure.savefig(stream, format="png")
            print_line(f"saved to {path}")
