"""What ``predict --photos`` prints and writes: a line for each photo, a CSV file, contact sheets."""

import csv
import functools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fmnist_lightning.internals.console import print_line
from fmnist_lightning.photos.images import THUMBNAIL_SIZE, Photo, labels_from_folder
from fmnist_lightning.photos.preprocessing import NUM_VIEWS
from fmnist_lightning.training import runs

ROWS, COLUMNS = 8, 5  # of a contact sheet
GAP, LINE_HEIGHT = 8, 20  # pixels
BACKGROUND, TEXT, MUTED = (24, 24, 24), (230, 230, 230), (160, 160, 160)
CORRECT, INCORRECT = (70, 172, 155), (226, 130, 66)  # distinct for all kinds of color vision
CELL_SIZE = 2 * THUMBNAIL_SIZE + GAP, THUMBNAIL_SIZE + 3 * LINE_HEIGHT + GAP


class PhotoReport(BasePredictionWriter):
    """Writes predictions batch by batch, so that memory does not grow with the number of photos.

    ``photos.csv`` has a row for each photo, ``photos-1.png``, ``photos-2.png``, ... show the photos,
    and ``mistakes-1.png``, ... those that are in a folder of another class.

    Args:
        paths: The files of the photos.
        run_dir: The new folder for all this is created below it; None writes nothing.
        classes: Names of the C classes.

    Attributes:
        num_skipped: Number of files that could not be read.
    """

    def __init__(self, paths: Sequence[Path], run_dir: Path | None, classes: Sequence[str]) -> None:
        super().__init__("batch")
        self.paths = paths
        self.run_dir = run_dir
        self.classes = classes
        self.folder: Path | None = None
        self.num_skipped = 0
        self.counts: dict[str, list[int]] = {}  # by folder: correct predictions, photos

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Creates the folder and the table."""
        if self.run_dir:
            self.folder = runs.create_run_dir(self.run_dir / "photos")
            self.all_photos = ContactSheet(self.folder / "photos")
            self.mistakes = ContactSheet(self.folder / "mistakes")
            self._write_rows([["file", "folder", "prediction", *self.classes]])

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Any,
        batch: Photo,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Reports a batch, from its probabilities, shape (N, C)."""
        rows = []
        views = batch.views[:, NUM_VIEWS // 2]
        for probabilities, view, thumbnail, index, error in zip(
            prediction.cpu(), views.cpu(), batch.thumbnail.cpu(), batch.index, batch.error,
            strict=True,
        ):  # fmt: skip
            path = self.paths[index]
            if error:
                self.num_skipped += 1
                print_line(f"Skipping {printable(path)}: {error}")
                continue
            top = probabilities.topk(min(3, len(self.classes)))
            names = [self.classes[each] for each in top.indices]
            texts = [f"{n} {100 * p:.1f} %" for n, p in zip(names, top.values, strict=True)]
            line = "  ".join(f"{text:<19}" for text in texts)
            print_line(f"{printable(path)}  {line}".rstrip())
            folder = path.absolute().parent.name
            cells = [f"{probability:.6f}" for probability in probabilities]
            rows.append([printable(path), printable(folder), names[0], *cells])
            labels = labels_from_folder(path, self.classes)
            correct = names[0] in labels if labels else None
            if correct is not None:
                counts = self.counts.setdefault(folder, [0, 0])
                counts[0] += correct
                counts[1] += 1
            if self.folder:
                name = str(Path(*path.absolute().parts[-2:]))
                cell = _draw_cell(thumbnail, view, f"predicted {texts[0]}", labels, name, correct)
                self.all_photos.add(cell)
                if correct is False:
                    self.mistakes.add(cell)
        self._write_rows(rows)

    def _write_rows(self, rows: Iterable[Sequence[str]]) -> None:
        if self.folder:
            path = self.folder / "photos.csv"
            with path.open("a", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows(rows)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the accuracy by folder and saves the last contact sheets."""
        if self.counts:
            print_line(format_accuracy(self.counts))
        if self.folder:
            self.all_photos.save()
            self.mistakes.save()
            print_line(f"Predictions and contact sheets: {os.path.relpath(self.folder)}")


class ContactSheet:
    """Saves cells as images of up to 40 each: ``STEM-1.png``, ``STEM-2.png``, ...

    Args:
        stem: Path and first part of the file names.
    """

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.num_saved = 0
        self.cells: list[Image.Image] = []

    def add(self, cell: Image.Image) -> None:
        """Adds a cell; a full sheet is saved."""
        self.cells.append(cell)
        if len(self.cells) == ROWS * COLUMNS:
            self.save()

    def save(self) -> None:
        """Saves the cells since the last sheet, if there are any."""
        if not self.cells:
            return
        columns, rows = min(COLUMNS, len(self.cells)), -(-len(self.cells) // COLUMNS)
        width, height = (size + 2 * GAP for size in CELL_SIZE)
        sheet = Image.new("RGB", (columns * width, rows * height), BACKGROUND)
        for index, cell in enumerate(self.cells):
            row, column = divmod(index, columns)
            sheet.paste(cell, (column * width + GAP, row * height + GAP))
        self.num_saved += 1
        sheet.save(self.stem.with_name(f"{self.stem.name}-{self.num_saved}.png"))
        self.cells.clear()


def _draw_cell(
    thumbnail: Tensor,
    view: Tensor,
    prediction: str,
    labels: Sequence[str],
    name: str,
    correct: bool | None,
) -> Image.Image:
    """The photo next to the network's input, with prediction, label and file name below."""
    cell = Image.new("RGB", CELL_SIZE, BACKGROUND)
    cell.paste(Image.fromarray(thumbnail.numpy()), (0, 0))
    cell.paste(upscale_nearest(view, THUMBNAIL_SIZE), (THUMBNAIL_SIZE + GAP, 0))
    draw = ImageDraw.Draw(cell)
    color = TEXT if correct is None else CORRECT if correct else INCORRECT
    lines = [(prediction, color, 16), (name, MUTED, 13)]
    if labels:
        lines.insert(1, (f"label {' or '.join(labels)}", TEXT, 13))
    for index, (text, fill, size) in enumerate(lines):
        font = load_font(size)
        text = text.encode("ascii", "backslashreplace").decode()  # the font has no other glyphs
        while font.getlength(text) > cell.width:  # keep both ends of a name
            half = (len(text) - 2) // 2
            text = f"{text[:half]}…{text[-half:]}"
        draw.text((0, THUMBNAIL_SIZE + 4 + index * LINE_HEIGHT), text, fill, font)
        draw.text((0, THUMBNAIL_SIZE + 4 + index * LINE_HEIGHT), cut, fill, font)
    return cell


def upscale_nearest(image: Tensor, size: int) -> Image.Image:
    """A uint8 image, shape (H, W), as a square of ``size`` pixels, with sharp pixel edges."""
    return Image.fromarray(image.numpy()).resize((size, size), Image.Resampling.NEAREST)


@functools.cache
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font; loading it takes longer than drawing with it."""
    return ImageFont.load_default(size)


def format_accuracy(counts: Mapping[str, Sequence[int]]) -> str:
    """Balanced accuracy, and the accuracy of each folder.

    Args:
        counts: For each folder, the number of correct predictions and of photos.
    """
    mean, half_width = balanced_accuracy(counts)
    folders = "1 folder" if len(counts) == 1 else f"{len(counts)} folders"
    lines = [
        f"balanced accuracy {100 * mean:.2f} % ± {100 * half_width:.2f} % (the mean of {folders})"
    ]
    for name, (correct, total) in sorted(counts.items()):
        percent = f"{100 * correct / total:6.2f} %"
        lines.append(f"  {printable(name):<12} {percent} ({correct:,}/{total:,})")
    return "\n".join(lines)


def balanced_accuracy(counts: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """The mean of the folders' accuracies, and half the width of its 95 % confidence interval.

    Args:
        counts: For each folder, the number of correct predictions and of photos.
    """
    mean = sum(correct / total for correct, total in counts.values()) / len(counts)
    # One more correct and one more incorrect prediction: all of few is not certainty.
    smoothed = [((correct + 1) / (total + 2), total) for correct, total in counts.values()]
    variance = sum(p * (1 - p) / total for p, total in smoothed)
    return mean, 1.96 * math.sqrt(variance) / len(counts)


def printable(path: Path | str) -> str:
    """A file name on one line, with undecodable bytes and control characters escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
