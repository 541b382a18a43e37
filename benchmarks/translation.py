"""Measures robustness to translation: test accuracy on images that are shifted by a few pixels.

    python benchmarks/translation.py --ckpt_path mlp.ckpt cnn.ckpt translated.ckpt

The test images are shifted left, right, up and down. Accuracies go to `results/translation.csv`,
their means over the four directions to docs/benchmarks.md.
"""

import csv
from pathlib import Path

import common
import torch
from common import DOCS, RESULTS, Section, Texts, markdown_table
from torch import Tensor
from torch.nn import functional as F

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.data.dataset import TensorImageDataset, read_dataset
from fmnist_lightning.data.download import raw_folder

SAVED = RESULTS / "translation.csv"
SECTION = Section(DOCS / "benchmarks.md", "translation", "translation.py")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # (rows, columns)
MAX_SHIFT = 10  # pixels

Accuracies = dict[str, list[float]]  # by direction or by network: one for each shift, 0 to 1


def translate(images: Tensor, rows: int, columns: int) -> Tensor:
    """Shifts images, shape (N, H, W), down and to the right, or, if negative, up and left."""
    return F.pad(images, (columns, -columns, rows, -rows))  # zeros; a negative padding crops


@torch.inference_mode()
def measure(classifier: FashionClassifier, dataset: TensorImageDataset) -> Accuracies:
    """Accuracy for each direction and each shift from 0 to ``MAX_SHIFT`` pixels."""
    accuracies: Accuracies = {name: [] for name in DIRECTIONS}
    for name, (rows, columns) in DIRECTIONS.items():
        for pixels in range(MAX_SHIFT + 1):
            images = translate(dataset.images, rows * pixels, columns * pixels)
            scores = torch.cat([classifier(batch) for batch in torch.split(images, 500)])
            is_correct = scores.argmax(dim=1) == dataset.labels
            accuracies[name].append(is_correct.double().mean().item())
    return accuracies


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


def main() -> None:
    """Measures, saves, and writes the table."""
    parser = common.create_parser(__doc__)
    parser.add_argument("--ckpt_path", nargs="+", default=[], type=Path, metavar="CKPT")
    args = parser.parse_args()
    if args.ckpt_path:
        dataset = read_dataset(raw_folder(common.prepare_data()), train=False)
        networks = {}
        for path in args.ckpt_path:
            networks[path.stem] = measure(load_classifier(path).float(), dataset)
        save(networks)
    common.write(texts())


if __name__ == "__main__":
    main()
