"""What ``predict --photos`` prints and writes."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from typing_extensions import override

from fmnist_lightning.data.checks import is_fashion_mnist
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.photos.dataset import Photo, PhotoDataset, label_from_folder
from fmnist_lightning.photos.predict import NOT_FOR_PHOTOS, UNSURE, is_for_photos
from fmnist_lightning.runs import runs

SHEET_SIZE = 40  # photos on a contact sheet


class PhotoReport(Callback):
    """Prints predictions, and writes ``photos.csv`` and contact sheets to a folder in ``run_dir``.

    Files are written as predictions come, so that memory does not grow with the number of photos.
    ``name`` is that of the checkpoint.
    """

    def __init__(self, photos: PhotoDataset, run_dir: Path | None, name: str) -> None:
        self.photos = photos
        self.run_dir = run_dir
        self.name = name
        self.folder: Path | None = None  # a dry run writes nothing
        self.classes = photos.classes
        # Images and captions of the next sheet, and whether they are correct, if that is known.
        self.cells: list[tuple[Tensor, str, bool | None]] = []
        self.num_sheets = 0
        self.num_skipped = 0
        # Whether each prediction is correct, by label; None is a folder not named after a class.
        self.are_correct: defaultdict[str | None, list[bool]] = defaultdict(list)

    @override
    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        if not is_for_photos(pl_module.classifier):
            print_line(NOT_FOR_PHOTOS)
        if self.run_dir:
            self.folder = runs.create_run_dir(self.run_dir / "photos")
        self._write_row("file", "folder", "skipped", "prediction", *self.classes)

    @override
    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Reports a batch of ``Photo``, from its probabilities, shape (N, C)."""
        for photo, probabilities in zip(batch, outputs.tolist(), strict=True):
            folder = photo.path.absolute().parent.name
            if photo.error:
                self.num_skipped += 1
                print_line(f"Skipping {printable(photo.error)}")
                self._write_row(photo.path, folder, photo.error, "", *[""] * len(self.classes))
                continue
            ranked = sorted(zip(probabilities, self.classes, strict=True), reverse=True)
            top = [f"{name} {100 * value:.1f} %" for value, name in ranked[:3]]
            unsure = "(unsure)" if ranked[0][0] < UNSURE else ""
            line = "  ".join(f"{text:<19}" for text in (*top, unsure))
            print_line(f"{printable(photo.path)}  {line}".rstrip())
            prediction, label = ranked[0][1], label_from_folder(folder, self.classes)
            formatted = [f"{value:.6f}" for value in probabilities]
            self._write_row(photo.path, folder, "", prediction, *formatted)
            num_networks = 2 if is_fashion_mnist(self.classes) else 1
            name = printable(f"{folder}/{photo.path.name}")
            name = name if len(name) <= 26 else f"{name[:25]}…"
            caption = f"{top[0]} {unsure}\n{name}"
            is_correct = prediction == label
            self.are_correct[label].append(is_correct)
            image = cell_image(photo, num_networks)
            self.cells.append((image, caption, is_correct if label else None))
            if len(self.cells) == SHEET_SIZE:
                self._save_sheet()

    @override
    def on_predict_end(self, trainer: Trainer, pl_module: Any) -> None:
        num_unlabeled = len(self.are_correct.pop(None, []))
        if self.are_correct:
            print_line(format_accuracy(self.are_correct))
            if num_unlabeled:
                print_line(f"{num_unlabeled:,} photos are in folders of other names")
        if others := self.photos.other_files:
            names = ", ".join(map(printable, others[:3])) + ", ..." * (len(others) > 3)
            print_line(f"Files that are not images, skipped: {len(others):,} ({names})")
        self._save_sheet()
        if self.folder:
            print_line(f"Predictions:    {self.folder / 'photos.csv'}")
            for number in range(1, self.num_sheets + 1):
                print_line(f"Contact sheet:  {self.folder / f'photos-{number}.png'}")

    def _write_row(self, *cells: str | Path) -> None:
        if self.folder:
            with (self.folder / "photos.csv").open("a", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerow(map(printable, cells))

    def _save_sheet(self) -> None:
        if not (self.cells and self.folder):
            return
        from fmnist_lightning import figures  # matplotlib takes long to import

        self.num_sheets += 1
        images, captions, are_correct = zip(*self.cells, strict=True)
        title = f"{len(images)} photos, checkpoint {self.name}"
        if labeled := [value for value in are_correct if value is not None]:
            title += f": {sum(labeled)} of {len(labeled)} with a label correct"
        grid = torch.stack(images)
        figure = figures.plot_image_grid(grid, captions, title, 4, 2 * figures.WIDTH, are_correct)
        figure.savefig(self.folder / f"photos-{self.num_sheets}.png")
        self.cells = []


def cell_image(photo: Photo, num_networks: int) -> Tensor:
    """What each network sees of a photo, side by side, uint8, shape (224, 224 or 448, 3)."""
    views, crops = photo.preprocessed
    view = views[len(views) // 2].repeat_interleave(8, 0).repeat_interleave(8, 1)
    view = view[..., None].expand(-1, -1, 3)
    # An image of the dataset has no crop.
    return torch.cat([*crops, view, view][:num_networks], dim=1).cpu()


def format_accuracy(are_correct: Mapping[Any, Sequence[bool]]) -> str:
    """The balanced accuracy and that of each label, from whether its predictions are correct."""
    mean = statistics.mean(sum(values) / len(values) for values in are_correct.values())
    lines = [f"balanced accuracy {100 * mean:.2f} % (mean of classes)"]
    for name, values in sorted(are_correct.items()):
        correct, total = sum(values), len(values)
        lines.append(f"  {name:<12} {100 * correct / total:6.2f} % ({correct:,}/{total:,})")
    return "\n".join(lines)


def printable(path: Path | str) -> str:
    """A file name on one line, with undecodable bytes and control characters escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(path))
