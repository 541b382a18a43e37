"""What ``predict --photos`` prints and writes."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor
from typing_extensions import override

from fmnist_lightning.internals.console import print_line
from fmnist_lightning.photos.images import (
    THUMBNAIL_SIZE,
    Photo,
    PhotoDataset,
    labels_from_folder,
)
from fmnist_lightning.photos.predict import NOT_FOR_PHOTOS, PhotoClassifier, is_for_photos
from fmnist_lightning.photos.preprocessing import IMAGE_SIZE
from fmnist_lightning.runs import runs

SHEET_ROWS, SHEET_COLUMNS = 10, 4


class PhotoReport(BasePredictionWriter):
    """Prints predictions, and writes ``photos.csv`` and contact sheets to a folder in ``run_dir``.

    ``photos-1.png``, ``photos-2.png``, ... show all photos, and ``mistakes-1.png``, ... those in a
    folder that is named after another class. Files are written as predictions come, so that memory
    does not grow with the number of photos. Without a ``run_dir``, nothing is written.
    """

    def __init__(
        self,
        photos: PhotoDataset,
        run_dir: Path | None,
        classes: Sequence[str],
        list_skipped: bool = False,
    ) -> None:
        super().__init__("batch")
        self.photos = photos
        self.run_dir = run_dir
        self.classes = classes
        self.list_skipped = list_skipped
        self.folder: Path | None = None
        self.sheets: dict[str, ContactSheets] = {}
        self.num_skipped = 0
        self.counts: dict[str, list[int]] = {}  # by folder: correct predictions, photos

    @override
    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, PhotoClassifier)
        if not is_for_photos(pl_module.classifier):
            print_line(NOT_FOR_PHOTOS)
        if self.run_dir:
            self.folder = runs.create_run_dir(self.run_dir / "photos")
            for name in ("photos", "mistakes"):
                self.sheets[name] = ContactSheets(self.folder, name)
            self._write_row("file", "folder", "skipped", "prediction", *self.classes)

    @override
    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Any,
        batch: Sequence[Photo],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Reports a batch of ``Photo``, from its probabilities, shape (N, C)."""
        for photo, probabilities in zip(batch, prediction.tolist(), strict=True):
            path = self.photos.paths[photo.file_index]
            if photo.error:
                self.num_skipped += 1
                print_line(f"Skipping {printable(photo.error)}")
                self._write_row(path, path.absolute().parent.name, photo.error)
            else:
                self._report(photo, path, dict(zip(self.classes, probabilities, strict=True)))

    def _report(self, photo: Photo, path: Path, probabilities: dict[str, float]) -> None:
        ranked = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
        top = [f"{name} {100 * probabilities[name]:.1f} %" for name in ranked[:3]]
        line = "  ".join(f"{text:<19}" for text in top)
        print_line(f"{printable(path)}  {line}".rstrip())
        folder, labels = path.absolute().parent.name, labels_from_folder(path, self.classes)
        is_correct = ranked[0] in labels if labels else None
        if is_correct is not None:
            counts = self.counts.setdefault(folder, [0, 0])
            counts[0] += is_correct
            counts[1] += 1
        formatted = [f"{probability:.6f}" for probability in probabilities.values()]
        self._write_row(path, folder, "", ranked[0], *formatted)
        lines = [f"predicted {top[0]}", printable(f"{folder}/{path.name}")[-26:]]
        lines[1:1] = [f"label {' or '.join(labels)}"] if labels else []
        for name, sheets in self.sheets.items():
            if name == "photos" or is_correct is False:
                sheets.add(photo, "\n".join(lines), is_correct)

    @override
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.counts:
            print_line(format_accuracy(self.counts))
        if self.list_skipped:
            for path in self.photos.other_files:
                print_line(f"Skipped {printable(path)}: its suffix is not that of an image")
        elif self.photos.other_files:
            num_files = f"{len(self.photos.other_files):,} non-image files"
            print_line(f"Skipped {num_files} (--list_skipped lists them)")
        for sheets in self.sheets.values():
            sheets.save()
        if self.folder:
            print_line(f"Predictions and contact sheets: {os.path.relpath(self.folder)}")

    def _write_row(self, *cells: str | Path) -> None:
        if self.folder:
            with (self.folder / "photos.csv").open("a", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerow(map(printable, cells))


class ContactSheets:
    """Images of 40 photos each, ``NAME-1.png``, ``NAME-2.png``, ..., written when they are full."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.num_saved = 0
        self.images: list[Tensor] = []
        self.captions: list[str] = []
        self.colors: list[str] = []

    def add(self, photo: Photo, caption: str, is_correct: bool | None) -> None:
        """Adds a photo, beside the image that the network sees; None is a photo without a label."""
        from fmnist_lightning import figures  # matplotlib takes long to import

        views, scale = photo.preprocessed.views, THUMBNAIL_SIZE // IMAGE_SIZE
        view = views[len(views) // 2].repeat_interleave(scale, 0).repeat_interleave(scale, 1)
        view = view[..., None].expand_as(photo.thumbnail)  # (112, 112, 3)
        self.images.append(torch.cat([photo.thumbnail, view], dim=1).cpu())
        self.captions.append(caption)
        colors = {True: figures.CORRECT, False: figures.INCORRECT, None: "black"}
        self.colors.append(colors[is_correct])
        if len(self.images) == SHEET_ROWS * SHEET_COLUMNS:
            self.save()

    def save(self) -> None:
        """Writes the photos that were added since the last sheet, if any."""
        from fmnist_lightning import figures

        if not self.images:
            return
        self.num_saved += 1
        title, width = f"{self.name.capitalize()} {self.num_saved}", 2 * figures.WIDTH
        figure = figures.plot_image_grid(
            torch.stack(self.images), self.captions, title, SHEET_COLUMNS, self.colors, width
        )
        figure.savefig(self.folder / f"{self.name}-{self.num_saved}.png")
        self.images, self.captions, self.colors = [], [], []


def format_accuracy(counts: Mapping[str, Sequence[int]]) -> str:
    """The balanced accuracy and that of each folder, from its correct predictions and photos."""
    mean, half_width = balanced_accuracy(counts)
    lines = [f"balanced accuracy {100 * mean:.2f} % ± {100 * half_width:.2f} % (mean of folders)"]
    for name, (correct, total) in sorted(counts.items()):
        percent = f"{100 * correct / total:6.2f} %"
        lines.append(f"  {printable(name):<12} {percent} ({correct:,}/{total:,})")
    return "\n".join(lines)


def balanced_accuracy(counts: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """Mean of the folders' accuracies, 0 to 1, and half the width of its 95 % interval."""
    mean = sum(correct / total for correct, total in counts.values()) / len(counts)
    # Counts one more correct and one more incorrect prediction, or 3 of 3 would be certain.
    smoothed = [((correct + 1) / (total + 2), total) for correct, total in counts.values()]
    variance = sum(p * (1 - p) / total for p, total in smoothed)
    return mean, 1.96 * math.sqrt(variance) / len(counts)


def printable(path: Path | str) -> str:
    """A file name on one line, with undecodable bytes and control characters escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
