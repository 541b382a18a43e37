"""Measures the accuracy of `predict --photos` on photos in folders named after classes.

    python benchmarks/photos.py FOLDER photos photos-without.ckpt

Photos whose SHA-256 is a multiple of 3 are held out: no choice was made by them. The others were
used to develop the preprocessing and `PhotoAugmentation`, and to choose the classes of ImageNet.
Each checkpoint is also measured without the ImageNet network. One thread classifies one photo after
another; the time is the median, from the file to the prediction. Raw counts go to
`results/photo-accuracy.json`, the table to docs/photos.md.
"""

import functools
import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import cv2
import torch
from common import DOCS, RESULTS, Section, Texts, markdown_table

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.data.images import load_image
from fmnist_lightning.photos import predict_images
from fmnist_lightning.photos.preprocessing import preprocess_photo

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


def predict(classifier: FashionClassifier, path: Path) -> str:
    """The class that `predict --photos` finds."""
    (prediction,) = predict_images(classifier, [path])
    return prediction.label


@torch.inference_mode()
def predict_without_imagenet(classifier: FashionClassifier, path: Path) -> str:
    """The class by the 28x28 pixels alone."""
    views = preprocess_photo(load_image(path)).views
    return CLASSES[int(classifier.probabilities(views).mean(dim=0).argmax())]


NETWORKS = {"": predict, ", without ImageNet": predict_without_imagenet}  # by the end of their name


def count(predict: Callable[[Path], str], paths: Iterable[Path]) -> dict[str, Any]:
    """For each folder, the number of correct predictions and of photos; seconds for each photo."""
    counts = {folder: [0, 0] for folder in LABELS}
    seconds = []
    for path in paths:
        start = time.perf_counter()
        label = predict(path)
        seconds.append(time.perf_counter() - start)
        numbers = counts[path.parent.name]
        numbers[0] += label in LABELS[path.parent.name]
        numbers[1] += 1
    return {"counts": counts, "seconds": statistics.median(seconds)}


def measure(folder: str, *checkpoints: str) -> None:
    """Measures each checkpoint on each part of the photos, and saves the counts."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parts: dict[str, list[Path]] = {"held out": [], "development": []}
    for name in LABELS:
        for path in Path(folder, name).iterdir():
            digest = int(hashlib.sha256(path.read_bytes()).hexdigest(), 16)
            parts["held out" if digest % 3 == 0 else "development"].append(path)
    rows = []
    for checkpoint in checkpoints:
        classifier = load_classifier(checkpoint)
        for suffix, function in NETWORKS.items():
            for part, paths in parts.items():
                row = {"network": Path(checkpoint).stem + suffix, "part": part}
                rows.append(row | count(functools.partial(function, classifier), paths))
    common.save(SAVED, rows=rows)


def balanced_accuracy(counts: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """Mean of the classes' accuracies, 0 to 1, and half the width of its 95 % interval."""
    mean = sum(correct / total for correct, total in counts.values()) / len(counts)
    # Counts one more correct and one more incorrect prediction, or 3 of 3 would be certain.
    smoothed = [((correct + 1) / (total + 2), total) for correct, total in counts.values()]
    variance = sum(p * (1 - p) / total for p, total in smoothed)
    return mean, 1.96 * math.sqrt(variance) / len(counts)


def texts() -> Texts:
    """A line for each network and part, a column for each folder."""
    rows = []
    for row in json.loads(SAVED.read_text())["rows"]:
        mean, half_width = balanced_accuracy(row["counts"])
        num_photos = sum(total for _, total in row["counts"].values())
        accuracy = f"**{100 * mean:.1f}** ± {100 * half_width:.1f}"
        counts = (f"{correct}/{total}" for correct, total in row["counts"].values())
        photos = f"{num_photos} {row['part']}"
        rows.append([row["network"], photos, accuracy, f"{row['seconds']:.2f}", *counts])
    folders = (f"{folder}:" for folder in LABELS)
    table = markdown_table(["network", "photos", "balanced %", "s:", *folders], rows)
    return {Section(DOCS / "photos.md", "photos"): table}


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
