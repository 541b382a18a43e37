"""What ``predict --photos`` prints and writes."""

import collections
import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from fmnist_lightning.internals.console import print_line
from fmnist_lightning.photos.augmentation import PhotoAugmentation
from fmnist_lightning.photos.images import THUMBNAIL_SIZE, Photo, labels_from_folder
from fmnist_lightning.photos.predict import PhotoClassifier
from fmnist_lightning.photos.preprocessing import IMAGE_SIZE
from fmnist_lightning.training import runs

ROWS, COLUMNS = 10, 4  # of a contact sheet


NOT_FOR_PHOTOS = "This network was not trained for photos: fit --config photos trains one"


def is_for_photos(classifier: LightningModule) -> bool:
    """Whether it was trained on images that look like photos."""
    augmentation = classifier.hparams["augmentation"] or {}
    return bool(augmentation.get("class_path", "").endswith(PhotoAugmentation.__name__))


class Cell(NamedTuple):
    """A photo on a contact sheet."""

    image: Tensor  # photo and network input side by side, RGB, uint8, shape (112, 224, 3)
    caption: str
    correct: bool | None  # None without a label


class PhotoReport(BasePredictionWriter):
    """Prints predictions, and writes ``photos.csv`` and contact sheets to a folder in ``run_dir``.

    ``photos-1.png``, ``photos-2.png``, ... show all photos, and ``mistakes-1.png``, ... those in a
    folder that is named after another class. Files are written as predictions come, so that memory
    does not grow with the number of photos. Without a ``run_dir``, nothing is written.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        run_dir: Path | None,
        classes: Sequence[str],
        verbose: bool = False,
    ) -> None:
        super().__init__("batch")
        self.paths = paths
        self.verbose = verbose
        self.run_dir = run_dir
        self.classes = classes
        self.folder: Path | None = None
        self.num_skipped = 0
        self.num_other = 0  # files of another kind beside the photos
        self.counts: dict[str, list[int]] = {}  # by folder: correct predictions, photos
        self.cells: dict[str, list[Cell]] = {"photos": [], "mistakes": []}
        self.num_sheets = collections.Counter[str]()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Creates the folder and the table."""
        assert isinstance(pl_module, PhotoClassifier)
        if not is_for_photos(pl_module.classifier):
            print_line(NOT_FOR_PHOTOS)
        if self.run_dir:
            self.folder = runs.create_run_dir(self.run_dir / "photos")
            self._write_row("file", "folder", "skipped", "prediction", *self.classes)

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
        for row, photo in zip(prediction.tolist(), batch, strict=True):
            path = self.paths[photo.file_index]
            if photo.error:
                self._skip(path, photo.error, photo.is_other)
                continue
            probabilities = dict(zip(self.classes, row, strict=True))
            ranked = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
            top = [f"{name} {100 * probabilities[name]:.1f} %" for name in ranked[:3]]
            line = "  ".join(f"{text:<19}" for text in top)
            print_line(f"{printable(path)}  {line}".rstrip())
            folder, labels = path.absolute().parent.name, labels_from_folder(path, self.classes)
            correct = ranked[0] in labels if labels else None
            if correct is not None:
                counts = self.counts.setdefault(folder, [0, 0])
                counts[0] += correct
                counts[1] += 1
            if self.folder:
                cells = [f"{probability:.6f}" for probability in probabilities.values()]
                self._write_row(printable(path), printable(folder), "", ranked[0], *cells)
                scale = THUMBNAIL_SIZE // IMAGE_SIZE
                views = photo.preprocessed.views
                view = views[len(views) // 2].repeat_interleave(scale, 0)
                view = view.repeat_interleave(scale, 1)[..., None]
                image = torch.cat([photo.thumbnail, view.expand_as(photo.thumbnail)], dim=1).cpu()
                lines = [f"predicted {top[0]}", printable(f"{folder}/{path.name}")[-26:]]
                lines[1:1] = [f"label {' or '.join(labels)}"] if labels else []
                cell = Cell(image, "\n".join(lines), correct)
                self._add_to_sheet("photos", cell)
                if correct is False:
                    self._add_to_sheet("mistakes", cell)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the accuracy by folder and saves the last contact sheets."""
        if self.counts:
            print_line(format_accuracy(self.counts))
        if self.num_other and not self.verbose:
            print_line(
                f"Passed over {self.num_other:,} files of other kinds (--verbose names them)"
            )
        if self.folder:
            for name in self.cells:
                self._save_sheet(name)
            print_line(f"Predictions and contact sheets: {os.path.relpath(self.folder)}")

    def _skip(self, path: Path, error: str, is_other: bool) -> None:
        self.num_other += is_other
        self.num_skipped += not is_other
        if not is_other or self.verbose:
            print_line(f"Skipping {printable(error)}")
        if self.folder:
            folder = path.absolute().parent.name
            self._write_row(printable(path), printable(folder), printable(error))

    def _write_row(self, *cells: str) -> None:
        assert self.folder is not None
        with (self.folder / "photos.csv").open("a", newline="", encoding="utf-8") as stream:
            # A spreadsheet would take a name that begins like a formula for one.
            quoted = ["'" + cell if cell[:1] in ("=", "+", "-", "@") else cell for cell in cells]
            csv.writer(stream).writerow(quoted)

    def _add_to_sheet(self, name: str, cell: Cell) -> None:
        self.cells[name].append(cell)
        if len(self.cells[name]) == ROWS * COLUMNS:
            self._save_sheet(name)

    def _save_sheet(self, name: str) -> None:
        from fmnist_lightning import figures  # matplotlib takes long to import

        cells = self.cells[name]
        if not cells or self.folder is None:
            return
        images, captions, correct = zip(*cells, strict=True)
        names = {True: figures.CORRECT, False: figures.INCORRECT, None: "black"}
        colors = [names[each] for each in correct]
        self.num_sheets[name] += 1
        title = f"{name.capitalize()} {self.num_sheets[name]}"
        figure = figures.plot_image_grid(
            torch.stack(images), captions, title, COLUMNS, colors, 2 * figures.WIDTH
        )
        figure.savefig(self.folder / f"{name}-{self.num_sheets[name]}.png")
        cells.clear()


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
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
