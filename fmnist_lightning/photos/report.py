"""What ``predict --photos`` answers: a table, a CSV file, and contact sheets."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image, ImageDraw
from torch import Tensor

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.photos.images import THUMBNAIL, labels_from_folder
from fmnist_lightning.photos.preprocessing import NUM_VIEWS
from fmnist_lightning.tensorboard.figures import INK, PAPER, RIGHT, WRONG
from fmnist_lightning.tensorboard.grids import GAP, load_font, upscale_nearest
from fmnist_lightning.training import runs

ROWS, COLUMNS = 8, 5  # of a contact sheet
LINE = 20  # pixels of height for a line of text
COLOURS = {True: RIGHT, False: WRONG, None: INK}  # right, wrong, not known


class ContactSheets:
    """Pictures of 40 photos each: the photo, what the network saw of it, and the answer.

    Args:
        folder: Where they go.
        name: What they are called, with their number.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.num_saved = 0
        self.cells: list[Image.Image] = []

    def add(self, cell: Image.Image) -> None:
        """Adds a photo; a sheet that is full is saved."""
        self.cells.append(cell)
        if len(self.cells) == ROWS * COLUMNS:
            self.save()

    def save(self) -> None:
        """Saves what is there, if anything."""
        if not self.cells:
            return
        columns, rows = min(COLUMNS, len(self.cells)), -(-len(self.cells) // COLUMNS)
        width, height = (size + 2 * GAP for size in self.cells[0].size)
        sheet = Image.new("RGB", (columns * width, rows * height), PAPER)
        for index, cell in enumerate(self.cells):
            row, column = divmod(index, columns)
            sheet.paste(cell, (column * width + GAP, row * height + GAP))
        self.num_saved += 1
        sheet.save(self.folder / f"{self.name}-{self.num_saved}.png")
        self.cells.clear()


class PhotoReport(Callback):
    """Writes the answers down as they come, so that any number of photos takes the same memory.

    ``photos.csv`` has a line for each photo, ``photos-1.png`` and so on show them, and
    ``mistakes-1.png`` and so on those whose folder is named after another class.

    Args:
        paths: The files of the photos.
        run_dir: Where all this goes, in a folder of its own; None writes nothing.
    """

    def __init__(self, paths: Sequence[Path], run_dir: Path | None) -> None:
        self.paths = paths
        self.run_dir = run_dir
        self.folder: Path | None = None
        self.num_skipped = 0
        self.right: dict[str, list[int]] = {}  # by the name of the folder: how many, of how many
        self.stream: TextIO | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the files."""
        if self.run_dir:
            self.folder = runs.create_run_dir(self.run_dir / "photos")
            self.stream = (self.folder / "photos.csv").open("w", newline="", encoding="utf-8")
            csv.writer(self.stream).writerow(["file", "folder", "prediction", *CLASSES])
            self.sheets = ContactSheets(self.folder, "photos")
            self.mistakes = ContactSheets(self.folder, "mistakes")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Takes the answers to one batch: probabilities, shape (N, 10)."""
        pictures, thumbnails, numbers, errors = batch
        for row, picture, thumbnail, number, error in zip(
            outputs.cpu(),
            pictures[:, NUM_VIEWS // 2].cpu(),
            thumbnails.cpu(),
            numbers,
            errors,
            strict=True,
        ):
            path = self.paths[number]
            if error:
                self.num_skipped += 1
                print_line(f"skipped {printable(path)}: {error}")
                continue
            top = row.topk(3)
            answers = [
                f"{CLASSES[each]} {chance:.1%}"
                for each, chance in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            ]
            print_line(
                f"{printable(path)}  " + "  ".join(f"{answer:<18}" for answer in answers).rstrip()
            )
            answer, classes = CLASSES[int(top.indices[0])], labels_from_folder(path)
            right = answer in classes if classes else None
            folder = path.absolute().parent.name
            if right is not None:
                counts = self.right.setdefault(folder, [0, 0])
                counts[0] += right
                counts[1] += 1
            if self.stream:
                cells = [f"{chance:.6f}" for chance in row.tolist()]
                csv.writer(self.stream).writerow(
                    [printable(path), printable(folder), answer, *cells]
                )
                name = printable(Path(*path.absolute().parts[-2:]))
                cell = _cell(thumbnail, picture, name, answers[0], right)
                self.sheets.add(cell)
                if right is False:
                    self.mistakes.add(cell)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the files, and sums up."""
        if self.right:
            print_line(as_summary(self.right))
        if self.stream and self.folder:
            self.stream.close()
            self.sheets.save()
            self.mistakes.save()
            print_line(f"table and contact sheets: {os.path.relpath(self.folder)}")


def as_summary(right: Mapping[str, Sequence[int]]) -> str:
    """Accuracy by folder, and the mean over the folders with its 95 % interval.

    Args:
        right: For each folder, how many answers are right, and of how many.
    """
    mean, reach = balanced(right)
    return "\n".join(
        [
            f"balanced accuracy {mean:.2%} ± {reach:.2%} (the mean of {len(right)} folders)",
            *(
                f"  {name:<12} {correct / total:7.2%} ({correct:,}/{total:,})"
                for name, (correct, total) in sorted(right.items())
            ),
        ]
    )


def balanced(right: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """The mean of the folders' accuracies, and the reach of its 95 % interval, 0 to 1 each.

    Args:
        right: For each folder, how many answers are right, and of how many.
    """
    shares = [correct / total for correct, total in right.values()]
    # With one more right and one more wrong, all or none right is not certainty.
    likely = [((correct + 1) / (total + 2), total) for correct, total in right.values()]
    variance = sum(share * (1 - share) / total for share, total in likely)
    return sum(shares) / len(shares), 1.96 * math.sqrt(variance) / len(shares)


def printable(path: Path | str) -> str:
    """A file's name on one line, whatever it is made of."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _cell(
    thumbnail: Tensor, picture: Tensor, name: str, answer: str, right: bool | None
) -> Image.Image:
    """The photo beside what the network saw, with the answer and the file's name below."""
    cell = Image.new("RGB", (2 * THUMBNAIL + GAP, THUMBNAIL + 2 * LINE + 4), PAPER)
    cell.paste(Image.fromarray(thumbnail.numpy()), (0, 0))
    cell.paste(upscale_nearest(picture, THUMBNAIL).convert("RGB"), (THUMBNAIL + GAP, 0))
    draw = ImageDraw.Draw(cell)
    draw.text((0, THUMBNAIL + 4), answer, fill=COLOURS[right], font=load_font(16))
    while len(name) > 4 and draw.textlength(name, font=load_font(13)) > cell.width:
        name = f"{name.removesuffix('…')[:-1]}…"
    draw.text((0, THUMBNAIL + 4 + LINE), name, fill=INK, font=load_font(13))
    return cell
