"""Measures the accuracy of `predict --photos` on photos in folders named after classes.

    python benchmarks/photos.py FOLDER photos.ckpt photos-without.ckpt

Photos whose SHA-256 is a multiple of 3 are held out: no choice was made by them. The others were
used to develop the preprocessing and `PhotoAugmentation`, and to choose the classes of ImageNet.
Each checkpoint is also measured without the ImageNet network. One thread classifies one photo after
another; the time is the median, from the file to the prediction. Raw counts go to
`results/photo-accuracy.json`, the table to docs/photos.md. `--table` measures nothing and writes
the table.
"""

import argparse
import functools
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from common import DOCS, RESULTS, Marks, save
from torch import Tensor

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos import PhotoClassifier
from fmnist_lightning.photos.images import find_photos, labels_from_folder, load_image
from fmnist_lightning.photos.preprocessing import PreprocessedPhoto, preprocess_photo
from fmnist_lightning.photos.report import balanced_accuracy

SAVED = RESULTS / "photo-accuracy.json"
PAGE = DOCS / "photos.md"
MARKS = Marks.of("photos", "photos.py")
PARTS = ("held out", "development")
Predict = Callable[[PreprocessedPhoto], Tensor]


def main() -> None:
    """Measures, saves, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--part", choices=PARTS, help="measure this part only, and save nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table")
    args = parser.parse_args()
    if not args.table:
        if not (args.photos and args.checkpoints):
            parser.error("give a folder of photos and checkpoints; or --table")
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        parts = [args.part] if args.part else PARTS
        paths = split(args.photos)
        prepared = {part: prepare(paths[part]) for part in parts}
        rows = [
            {"network": name, "part": part} | measure(predict, prepared[part])
            for name, predict in networks(args.checkpoints).items()
            for part in parts
        ]
        if args.part:
            print(table(rows))
            return
        save(SAVED, rows=rows)
    MARKS.replace(PAGE, table(json.loads(SAVED.read_text())["rows"]))


def networks(checkpoints: list[Path]) -> dict[str, Predict]:
    """What classifies a photo, by name: the checkpoints with the ImageNet network and without."""
    found: dict[str, Predict] = {}
    for path in checkpoints:
        classifier = load_classifier(path)
        found[path.stem] = functools.partial(with_imagenet, PhotoClassifier(classifier).eval())
        found[f"{path.stem}, without ImageNet"] = functools.partial(without_imagenet, classifier)
    return found


def with_imagenet(classifier: PhotoClassifier, photo: PreprocessedPhoto) -> Tensor:
    """Class probabilities, shape (C,)."""
    probabilities: Tensor = classifier([photo])[0]
    return probabilities


def without_imagenet(classifier: FashionClassifier, photo: PreprocessedPhoto) -> Tensor:
    """The same from the views only."""
    return classifier.probabilities(photo.views).mean(dim=0)


def split(folder: Path) -> dict[str, list[Path]]:
    """The photos of each part."""
    parts: dict[str, list[Path]] = {part: [] for part in PARTS}
    for path in find_photos([str(folder)])[0]:
        if labels_from_folder(path, CLASSES):
            digest = int(hashlib.sha256(path.read_bytes()).hexdigest(), 16)
            parts[PARTS[0] if digest % 3 == 0 else PARTS[1]].append(path)
    return parts


def prepare(paths: list[Path]) -> list[tuple[Path, PreprocessedPhoto, float]]:
    """Preprocesses the photos once for all networks; with the seconds of each."""
    prepared = []
    for path in paths:
        start = time.perf_counter()
        photo = preprocess_photo(load_image(path))
        prepared.append((path, photo, time.perf_counter() - start))
    return prepared


@torch.inference_mode()
def measure(
    predict: Predict, prepared: list[tuple[Path, PreprocessedPhoto, float]]
) -> dict[str, Any]:
    """For each folder, the number of correct predictions and of photos; seconds for each photo."""
    counts: dict[str, list[int]] = {}
    seconds = []
    for path, photo, seconds_before in prepared:
        start = time.perf_counter()
        prediction = CLASSES[int(predict(photo).argmax())]
        seconds.append(seconds_before + time.perf_counter() - start)
        of_folder = counts.setdefault(path.parent.name, [0, 0])
        of_folder[0] += prediction in labels_from_folder(path, CLASSES)
        of_folder[1] += 1
    return {"counts": dict(sorted(counts.items())), "seconds": statistics.median(seconds)}


def table(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown: a line for each network and part, a column for each folder."""
    folders = list(rows[0]["counts"])
    lines = [
        f"| network | photos | balanced % | s | {' | '.join(folders)} |",
        f"| --- | --- | --- | ---: |{' ---: |' * len(folders)}",
    ]
    for row in rows:
        mean, half_width = balanced_accuracy(row["counts"])
        cells = [f"{correct}/{total}" for correct, total in row["counts"].values()]
        num = sum(total for _, total in row["counts"].values())
        lines.append(
            f"| {row['network']} | {num} {row['part']} "
            f"| **{100 * mean:.1f}** ± {100 * half_width:.1f} | {row['seconds']:.2f} "
            f"| {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
