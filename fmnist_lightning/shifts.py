"""``python -m fmnist_lightning shifts``: what is left of the accuracy where pictures are moved."""

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from fmnist_lightning.data.dataset import TensorImageDataset, read_dataset
from fmnist_lightning.data.download import fetch, raw_folder
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.tensorboard.figures import plot_lines
from fmnist_lightning.training import runs
from fmnist_lightning.training.checkpoint import load_classifier
from fmnist_lightning.training.module import FashionClassifier
from fmnist_lightning.training.runs import ROOT

DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
TAG = "accuracy by shift"


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """Moves pictures; what comes in is black, and what goes out is lost.

    Args:
        images: Pictures, shape (N, H, W).
        down: Pixels; negative ones are up.
        right: Pixels; negative ones are left.

    Returns:
        New pictures of the same shape.
    """
    return F.pad(images, (right, -right, down, -down))  # a negative pad cuts


@torch.inference_mode()
def accuracy(classifier: FashionClassifier, dataset: TensorImageDataset) -> float:
    """Accuracy on a data set on the device of the classifier, 0 to 1."""
    parts = (torch.split(each, 500) for each in (dataset.images, dataset.labels))
    right = [
        (classifier(images).argmax(dim=1) == labels).sum()
        for images, labels in zip(*parts, strict=True)
    ]
    return float(torch.stack(right).sum()) / len(dataset)


def accuracy_by_shift(
    classifier: FashionClassifier, dataset: TensorImageDataset, largest: int, title: str = ""
) -> dict[str, list[float]]:
    """Accuracy on pictures that are moved by 0 to ``largest`` pixels, as it goes a progress bar.

    Args:
        classifier: In evaluation mode.
        dataset: On its device.
        largest: Pixels, 0 to 27.
        title: What stands before the progress bar.

    Returns:
        For each of ``DIRECTIONS``, an accuracy for each number of pixels, 0 to 1.
    """
    unmoved = accuracy(classifier, dataset)
    found = {name: [unmoved] for name in DIRECTIONS}
    with tqdm(total=len(found) * largest, desc=title, leave=False, disable=None) as bar:
        for name, (down, right) in DIRECTIONS.items():
            for by in range(1, largest + 1):
                moved = TensorImageDataset(
                    shift(dataset.images, down * by, right * by), dataset.labels
                )
                found[name].append(accuracy(classifier, moved))
                bar.update()
    return found


def main(args: Sequence[str]) -> None:
    """Runs the subcommand; ``--help`` explains it.

    Raises:
        argparse.ArgumentError: If the command line is wrong.
        ValueError: If a checkpoint can't be used.
        DataError: If the test pictures can't be had.
    """
    parser = argparse.ArgumentParser(
        prog="fmnist_lightning shifts",
        exit_on_error=False,
        description="Moves the test pictures left, right, up and down, pixel by pixel, and shows "
        "what is left of the accuracy: as a table, a chart, and in TensorBoard.",
    )
    parser.add_argument(
        "--ckpt_path", nargs="+", required=True, metavar="CKPT", help="one or more checkpoints"
    )
    parser.add_argument(
        "--largest", type=int, default=10, help="up to so many pixels (%(default)s)"
    )
    parser.add_argument("--data_dir", default="data", help="where the data is (%(default)s)")
    parser.add_argument("--root", default=ROOT, help="the folder of all runs (%(default)s)")
    parser.add_argument(
        "--trust", nargs="+", default=[], metavar="CLASS", help="classes they may name, my.Network"
    )
    asked = parser.parse_args(args)
    if not 0 <= asked.largest < 28:
        raise ValueError(f"--largest must be 0 to 27 pixels, not {asked.largest}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = {path: load_classifier(path, asked.trust).float() for path in asked.ckpt_path}
    names = [_name(classifier) for classifier in loaded.values()]
    classifiers = {  # of two alike, the path says which is which
        f"{name} ({path})" if names.count(name) > 1 else name: classifier.to(device)
        for name, (path, classifier) in zip(names, loaded.items(), strict=True)
    }
    folder = runs.create_run_dir(Path(asked.root))
    fetch(asked.data_dir)
    dataset = read_dataset(raw_folder(asked.data_dir), train=False).to(torch.device(device))
    results = {
        name: accuracy_by_shift(classifier, dataset, asked.largest, name)
        for name, classifier in classifiers.items()
    }
    means = {
        name: [sum(each) / len(each) for each in zip(*found.values(), strict=True)]
        for name, found in results.items()
    }
    print_line(format_metrics(means))
    with (folder / "shifts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["network", "direction", *range(asked.largest + 1)])
        for name, found in results.items():
            writer.writerows([name, direction, *found[direction]] for direction in found)
    chart = plot_lines(
        means,
        "Test accuracy on pictures that are moved",
        "pixels, left, right, up or down",
        "accuracy, mean of the four directions",
    )
    Image.fromarray(chart.numpy()).save(folder / "shifts.png")
    with SummaryWriter(str(folder)) as log:
        log.add_image(TAG, chart, dataformats="HWC")
        log.add_custom_scalars({TAG: {"all": ["Multiline", [f"^{TAG}/"]]}})
        for name, values in means.items():
            for by, value in enumerate(values):
                log.add_scalar(f"{TAG}/{name}", value, by)
    print_line(f"table, chart and TensorBoard log: {os.path.relpath(folder)}")


def format_metrics(means: dict[str, list[float]]) -> str:
    """Formats accuracies, in per cent, with a line for each number of pixels."""
    widths = [max(len(name), 7) for name in means]
    lines = ["pixels  " + "  ".join(name.rjust(w) for name, w in zip(means, widths, strict=True))]
    for by, values in enumerate(zip(*means.values(), strict=True)):
        cells = (f"{value:.2%}".rjust(w) for value, w in zip(values, widths, strict=True))
        lines.append(f"{by:>6}  " + "  ".join(cells))
    return "\n".join(lines)


def _name(classifier: FashionClassifier) -> str:
    """Network and augmentation of a classifier."""
    augmented = classifier.augmentation and f" + {type(classifier.augmentation).__name__}"
    return type(classifier.network).__name__ + (augmented or "")
