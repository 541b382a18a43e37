"""Measures the accuracy of `predict --photos` on photos in folders named after classes.

    python benchmarks/photos.py FOLDER photos photos-without.ckpt

Photos whose SHA-256 is a multiple of 3 are held out: no choice was made by them. The others were
used to develop the preprocessing and `PhotoAugmentation`, and to choose the classes of ImageNet.
Each checkpoint is also measured without the ImageNet network. One thread classifies one photo after
another; the time is the median, from the file to the prediction. Raw counts go to
`results/photo-accuracy.json`, the table to docs/photos.md.
"""

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import cv2
import torch
from common import DOCS, RESULTS, Section, Texts, markdown_table
from torch import Tensor

from fmnist_lightning import load_classifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.data.images import load_image
from fmnist_lightning.photos import PhotoClassifier
from fmnist_lightning.photos.dataset import find_photos
from fmnist_lightning.photos.preprocessing import PreprocessedPhoto, preprocess_photo

SAVED = RESULTS / "photo-accuracy.json"
LABELS = {  # the classes that are correct for the photos of a folder
    "dress": ("Dress",),
    "longsleeve": ("Pullover",),
    "outwear": ("Coat",),
    "pants": ("Trouser",),
    "shirt": ("Shirt",),
    "shoes": ("Sandal", "Sneaker", "Ankle boot"),
    "t-shirt": ("T-shirt/top",),
}
Predict = Callable[[PreprocessedPhoto], Tensor]  # class probabilities, shape (C,)


def split(folder: Path) -> dict[str, list[Path]]:
    """The photos of each part."""
    parts: dict[str, list[Path]] = {"held out": [], "development": []}
    for path in find_photos([str(folder)])[0]:
        if path.parent.name in LABELS:
            digest = int(hashlib.sha256(path.read_bytes()).hexdigest(), 16)
            parts["held out" if digest % 3 == 0 else "development"].append(path)
    return parts


def build_networks(checkpoint: Path) -> dict[str, Predict]:
    """A checkpoint with the ImageNet network and without, by name."""
    classifier = load_classifier(checkpoint)
    photo_classifier = PhotoClassifier(classifier).eval()
    return {
        checkpoint.stem: lambda photo: photo_classifier([photo])[0],
        f"{checkpoint.stem}, without ImageNet": lambda photo: classifier.probabilities(
            photo.views
        ).mean(dim=0),
    }


@torch.inference_mode()
def measure(predict: Predict, paths: list[Path]) -> dict[str, Any]:
    """For each folder, the number of correct predictions and of photos; seconds for each photo."""
    counts: dict[str, list[int]] = {}
    seconds = []
    for path in paths:
        start = time.perf_counter()
        photo = preprocess_photo(load_image(path))
        prediction = CLASSES[int(predict(photo).argmax())]
        seconds.append(time.perf_counter() - start)
        numbers = counts.setdefault(path.parent.name, [0, 0])
        numbers[0] += prediction in LABELS[path.parent.name]
        numbers[1] += 1
    return {"counts": dict(sorted(counts.items())), "seconds": statistics.median(seconds)}


def balanced_accuracy(counts: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """Mean of the classes' accuracies, 0 to 1, and half the width of its 95 % interval."""
    mean = sum(correct / total for correct, total in counts.values()) / len(counts)
    # Counts one more correct and one more incorrect prediction, or 3 of 3 would be certain.
    smoothed = [((correct + 1) / (total + 2), total) for correct, total in counts.values()]
    variance = sum(p * (1 - p) / total for p, total in smoothed)
    return mean, 1.96 * math.sqrt(variance) / len(counts)


def table(networks: list[dict[str, Any]]) -> str:
    """A line for each network and part, a column for each folder."""
    rows = []
    for row in networks:
        mean, half_width = balanced_accuracy(row["counts"])
        num_photos = sum(total for _, total in row["counts"].values())
        accuracy = f"**{100 * mean:.1f}** ± {100 * half_width:.1f}"
        counts = (f"{correct}/{total}" for correct, total in row["counts"].values())
        photos = f"{num_photos} {row['part']}"
        rows.append([row["network"], photos, accuracy, f"{row['seconds']:.2f}", *counts])
    folders = (f"{folder}:" for folder in networks[0]["counts"])
    return markdown_table(["network", "photos", "balanced %", "s:", *folders], rows)


def texts() -> Texts:
    """The section of the page."""
    rows = json.loads(SAVED.read_text())["rows"]
    return {Section(DOCS / "photos.md", "photos", "photos.py"): table(rows)}


def main() -> None:
    """Measures, saves, and writes the table."""
    parser = common.create_parser(__doc__)
    parser.add_argument("photos", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT")
    args = parser.parse_args()
    if args.checkpoints:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        rows = [
            {"network": name, "part": part} | measure(predict, paths)
            for checkpoint in args.checkpoints
            for name, predict in build_networks(checkpoint).items()
            for part, paths in split(args.photos).items()
        ]
        common.save(SAVED, rows=rows)
    common.write(texts())


if __name__ == "__main__":
    main()
