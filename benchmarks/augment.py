"""Measures augmentation on whole batches beside torchvision's, picture by picture.

`python benchmarks/augment.py` saves `results/augment.json` and writes the table of the page.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from results import ROOT, SAVED, machine, machine_text, replace_between
from torch import Tensor
from torchvision.transforms import v2

from fmnist_lightning import RandomAugmentation

FILE = SAVED / "augment.json"
PAGE = ROOT / "benchmarks" / "README.md"
MARKS = "<!-- augment: written by benchmarks/augment.py -->\n", "<!-- end of augment -->\n"
BATCH_SIZE = 256
ROUNDS = 30


def one_by_one(transform: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Gives each picture a draw of its own, which torchvision's transforms of a batch do not."""
    return lambda images: torch.cat([transform(image) for image in images[:, None]])


def contestants() -> dict[str, Callable[[Tensor], Tensor]]:
    """The same mirroring, shifting and erasing by both."""
    move = [v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=1)]
    erase = v2.RandomErasing(p=0.5, scale=(0.02, 0.3), value=0)
    ours, ours_erasing = RandomAugmentation(shift=1), RandomAugmentation(shift=1, erase=0.5)
    return {
        "RandomAugmentation: mirror, shift": ours,
        "torchvision v2, each picture": one_by_one(v2.Compose(move)),
        "torchvision v2, one draw for the whole batch": v2.Compose(move),
        "RandomAugmentation: and erase": ours_erasing,
        "torchvision v2, each picture: and erase": one_by_one(v2.Compose([*move, erase])),
    }


def measure() -> dict[str, Any]:
    """Milliseconds a batch, in turn."""
    images = torch.randint(0, 256, (BATCH_SIZE, 28, 28), dtype=torch.uint8)
    taken: dict[str, list[float]] = {name: [] for name in contestants()}
    for _ in range(ROUNDS):
        for name, augment in contestants().items():
            start = time.perf_counter()
            augment(images)
            taken[name].append(1000 * (time.perf_counter() - start))
    return {"command": "python benchmarks/augment.py", "machine": machine(), "milliseconds": taken}


def table(saved: dict[str, Any]) -> str:
    """Medians."""
    lines = [f"| | ms for a batch of {BATCH_SIZE} | s for 48,000 pictures |", "| --- | --- | --- |"]
    for name, taken in saved["milliseconds"].items():
        median = statistics.median(taken)
        lines.append(f"| {name} | {median:.2f} | {median * 48 / BATCH_SIZE:.2f} |")
    return "\n".join(lines) + f"\n\nMedians of {ROUNDS}; {machine_text(saved['machine'])}.\n"


def main() -> None:
    """Measures, saves, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="write the table only")
    if not parser.parse_args().report:
        FILE.write_text(json.dumps(measure(), indent=1) + "\n")
    replace_between(PAGE, MARKS, table(json.loads(FILE.read_text())))


if __name__ == "__main__":
    main()
