"""Measures robustness to translation: test accuracy on images that are shifted by a few pixels.

    python benchmarks/translation.py --ckpt_path mlp.ckpt cnn.ckpt translated.ckpt

The test images are shifted left, right, up and down. Accuracies go to `results/translation.csv`,
their means over the four directions to `translation.png` and docs/benchmarks.md. `--table` measures
nothing and writes chart and table.
"""

import argparse
import csv
import itertools
from pathlib import Path

import torch
from common import BENCHMARKS, DOCS, RESULTS, Marks
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.data.dataset import TensorImageDataset, read_dataset
from fmnist_lightning.data.download import download, raw_folder
from fmnist_lightning.figures import PERCENT, SMALL, new_figure, styled

SAVED = RESULTS / "translation.csv"
CHART = BENCHMARKS / "translation.png"
PAGE = DOCS / "benchmarks.md"
MARKS = Marks.of("translation", "translation.py")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # (rows, columns)

Accuracies = dict[str, list[float]]  # by direction or by network: one for each shift, 0 to 1


def translate(images: Tensor, rows: int, columns: int) -> Tensor:
    """Shifts images down and to the right, with zero padding; negative: up and to the left.

    Args:
        images: Shape (N, H, W).
        rows: Pixels.
        columns: Pixels.

    Returns:
        New images, shape (N, H, W).
    """
    return F.pad(images, (columns, -columns, rows, -rows))  # a negative padding crops


@torch.inference_mode()
def compute_accuracy(classifier: FashionClassifier, images: Tensor, labels: Tensor) -> float:
    """Accuracy, 0 to 1, on the device of the images."""
    batches = zip(torch.split(images, 500), torch.split(labels, 500), strict=True)
    num_correct = sum(int((classifier(x).argmax(dim=1) == y).sum()) for x, y in batches)
    return num_correct / len(labels)


def measure(
    classifier: FashionClassifier, dataset: TensorImageDataset, max_shift: int, title: str = ""
) -> Accuracies:
    """Accuracy for each direction and each shift from 0 to ``max_shift`` pixels."""
    images, labels = dataset.images, dataset.labels
    centered = compute_accuracy(classifier, images, labels)
    found = {name: [centered] for name in DIRECTIONS}
    with tqdm(total=len(found) * max_shift, desc=title, leave=False, disable=None) as bar:
        for name, (rows, columns) in DIRECTIONS.items():
            for by in range(1, max_shift + 1):
                shifted = translate(images, rows * by, columns * by)
                found[name].append(compute_accuracy(classifier, shifted, labels))
                bar.update()
    return found


def describe(classifier: FashionClassifier) -> str:
    """The network of a classifier, and whether it was trained with augmentation."""
    name = type(classifier.network).__name__
    return f"augmented {name}" if classifier.augmentation else name


def save(found: dict[str, Accuracies]) -> None:
    """Writes the raw results."""
    with SAVED.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        shifts = range(len(next(iter(found.values()))["left"]))
        writer.writerow(["network", "direction", *shifts])
        for name, by_direction in found.items():
            writer.writerows(
                [name, direction, *by_direction[direction]] for direction in DIRECTIONS
            )


def load_means() -> Accuracies:
    """The saved accuracies of each network, averaged over the directions."""
    with SAVED.open(newline="") as stream:
        _, *rows = csv.reader(stream)
    means = {}
    for name in dict.fromkeys(row[0] for row in rows):
        by_direction = [map(float, row[2:]) for row in rows if row[0] == name]
        means[name] = [sum(each) / len(each) for each in zip(*by_direction, strict=True)]
    return means


def table(means: Accuracies) -> str:
    """One line for each shift."""
    lines = [f"| pixels | {' | '.join(means)} |", "| ---: |" + " ---: |" * len(means)]
    for by, accuracies in enumerate(zip(*means.values(), strict=True)):
        lines.append(f"| {by} | {' | '.join(f'{100 * each:.2f}' for each in accuracies)} |")
    return "\n".join(lines) + "\n"


@styled
def plot_means(means: Accuracies) -> Figure:
    """A line for each network."""
    figure = new_figure(2.8 + 0.09 * len(means), "Robustness to translation")
    axes = figure.add_subplot(ylim=(0, 1.02), ylabel="test accuracy")
    axes.set(xlabel="shift in pixels, mean of four directions")
    for (name, accuracies), marker in zip(means.items(), itertools.cycle("osD^v")):
        axes.plot(accuracies, marker=marker, markersize=4, label=name)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid(axis="y")
    figure.legend(loc="outside lower left", ncols=2, fontsize=SMALL)
    return figure


def main() -> None:
    """Measures, saves, and writes table and chart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ckpt_path", nargs="+", default=[], metavar="CKPT")
    parser.add_argument("--max-shift", type=int, default=10, metavar="PIXELS", help="0 to 27")
    parser.add_argument("--data-dir", default="data", type=Path)
    parser.add_argument("--table", action="store_true", help="measure nothing, write only")
    args = parser.parse_args()
    if not args.table:
        if not args.ckpt_path:
            parser.error("give --ckpt_path or --table")
        if not 0 <= args.max_shift < 28:
            parser.error(f"--max-shift must be 0 to 27 pixels, not {args.max_shift}")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        download(args.data_dir)
        dataset = read_dataset(raw_folder(args.data_dir), train=False).to(device)
        loaded = {path: load_classifier(path).float().to(device) for path in args.ckpt_path}
        names = [describe(classifier) for classifier in loaded.values()]
        found = {}
        for name, (path, classifier) in zip(names, loaded.items(), strict=True):
            unique = f"{name} ({path})" if names.count(name) > 1 else name
            found[unique] = measure(classifier, dataset, args.max_shift, unique)
        save(found)
    means = load_means()
    plot_means(means).savefig(CHART)
    MARKS.replace(PAGE, table(means))
    print(table(means))


if __name__ == "__main__":
    main()
