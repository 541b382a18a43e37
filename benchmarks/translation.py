"""Measures robustness to translation: test accuracy on images that are shifted by a few pixels.

    python benchmarks/translation.py --ckpt_path mlp.ckpt cnn.ckpt translated.ckpt

The test images are shifted left, right, up and down. Accuracies go to `results/translation.csv`,
their means over the four directions to `translation.png` and docs/benchmarks.md.
"""

import csv
import itertools
from pathlib import Path

import common
import torch
from common import BENCHMARKS, DOCS, RESULTS, Section, Texts, markdown_table
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.data.dataset import TensorImageDataset, read_dataset
from fmnist_lightning.data.download import download, raw_folder
from fmnist_lightning.figures import PERCENT, SMALL, new_figure, styled

SAVED = RESULTS / "translation.csv"
CHART = BENCHMARKS / "translation.png"
SECTION = Section(DOCS / "benchmarks.md", "translation", "translation.py")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # (rows, columns)
MAX_SHIFT = 10  # pixels

Accuracies = dict[str, list[float]]  # by direction or by network: one for each shift, 0 to 1


def translate(images: Tensor, rows: int, columns: int) -> Tensor:
    """Shifts images, shape (N, H, W), down and to the right, or, if negative, up and left."""
    return F.pad(images, (columns, -columns, rows, -rows))  # zeros; a negative padding crops


@torch.inference_mode()
def compute_accuracy(classifier: FashionClassifier, images: Tensor, labels: Tensor) -> float:
    """Accuracy, 0 to 1, on the device of the images."""
    batches = zip(torch.split(images, 500), torch.split(labels, 500), strict=True)
    num_correct = sum(int((classifier(x).argmax(dim=1) == y).sum()) for x, y in batches)
    return num_correct / len(labels)


def measure(classifier: FashionClassifier, dataset: TensorImageDataset) -> Accuracies:
    """Accuracy for each direction and each shift from 0 to ``MAX_SHIFT`` pixels."""
    return {
        name: [
            compute_accuracy(
                classifier,
                translate(dataset.images, rows * pixels, columns * pixels),
                dataset.labels,
            )
            for pixels in range(MAX_SHIFT + 1)
        ]
        for name, (rows, columns) in DIRECTIONS.items()
    }


def save(networks: dict[str, Accuracies]) -> None:
    """Writes the raw results."""
    with SAVED.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["network", "direction", *range(MAX_SHIFT + 1)])
        for name, accuracies in networks.items():
            for direction, values in accuracies.items():
                writer.writerow([name, direction, *values])


def load_means() -> Accuracies:
    """The saved accuracies of each network, averaged over the directions."""
    with SAVED.open(newline="") as stream:
        _, *rows = csv.reader(stream)
    means = {}
    for name in dict.fromkeys(row[0] for row in rows):
        directions = [map(float, row[2:]) for row in rows if row[0] == name]
        means[name] = [sum(values) / len(values) for values in zip(*directions, strict=True)]
    return means


def texts() -> Texts:
    """One line for each shift."""
    means = load_means()
    rows = (
        [str(pixels), *(f"{100 * value:.2f}" for value in accuracies)]
        for pixels, accuracies in enumerate(zip(*means.values(), strict=True))
    )
    return {SECTION: markdown_table([f"{column}:" for column in ("pixels", *means)], rows)}


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
    parser = common.create_parser(__doc__)
    parser.add_argument("--data-dir", default="data", type=Path)
    parser.add_argument("--ckpt_path", nargs="+", default=[], type=Path, metavar="CKPT")
    args = parser.parse_args()
    if not args.table:
        if not args.ckpt_path:
            parser.error("give --ckpt_path or --table")
        download(args.data_dir)
        dataset = read_dataset(raw_folder(args.data_dir), train=False)
        networks = {}
        for path in args.ckpt_path:
            networks[path.stem] = measure(load_classifier(path).float(), dataset)
        save(networks)
    plot_means(load_means()).savefig(CHART)
    common.write(texts())


if __name__ == "__main__":
    main()
