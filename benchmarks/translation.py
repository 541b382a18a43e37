"""Measures robustness to translation: test accuracy on images that are shifted by a few pixels.

    python benchmarks/translation.py mlp.ckpt cnn.ckpt translated.ckpt

The test images are shifted left, right, up and down. Accuracies go to `results/translation.csv`,
their means over the four directions to docs/benchmarks.md.
"""

import csv
import statistics
from pathlib import Path

import common
import torch
from common import DOCS, RESULTS, Section, Texts, markdown_table
from torch import Tensor
from torch.nn import functional as F

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.data.dataset import read_dataset
from fmnist_lightning.data.download import download

SAVED = RESULTS / "translation.csv"
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # (rows, columns)
SHIFTS = range(11)  # pixels


def translate(images: Tensor, rows: int, columns: int) -> Tensor:
    """Shifts images, shape (N, H, W), down and to the right, or, if negative, up and left."""
    return F.pad(images, (columns, -columns, rows, -rows))  # zeros; a negative padding crops


@torch.inference_mode()
def compute_accuracy(classifier: FashionClassifier, images: Tensor, labels: Tensor) -> float:
    """The fraction of correct predictions."""
    scores = torch.cat([classifier(batch) for batch in torch.split(images, 500)])
    return (scores.argmax(dim=1) == labels).double().mean().item()


def measure(*checkpoints: str) -> None:
    """Measures each checkpoint, in each direction, and saves the accuracies."""
    dataset = read_dataset(download("data"), train=False)
    lines: list[list[object]] = [["network", "direction", *SHIFTS]]
    for path in checkpoints:
        classifier = load_classifier(path).float()
        for direction, (rows, columns) in DIRECTIONS.items():
            shifted = (translate(dataset.images, rows * n, columns * n) for n in SHIFTS)
            accuracies = [compute_accuracy(classifier, each, dataset.labels) for each in shifted]
            lines.append([Path(path).stem, direction, *accuracies])
    with SAVED.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)


def texts() -> Texts:
    """One line for each shift, with the means over the directions."""
    with SAVED.open(newline="") as stream:
        saved = list(csv.DictReader(stream))
    networks = dict.fromkeys(row["network"] for row in saved)
    rows = []
    for shift in map(str, SHIFTS):
        means = (
            statistics.mean(float(row[shift]) for row in saved if row["network"] == network)
            for network in networks
        )
        rows.append([shift, *(f"{100 * mean:.2f}" for mean in means)])
    table = markdown_table([f"{column}:" for column in ("pixels", *networks)], rows)
    return {Section(DOCS / "benchmarks.md", "translation"): table}


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
