"""The tables of what `speed.py` measured."""

import json
import re
import statistics
from collections.abc import Iterable
from typing import Any

import common
from common import DOCS, README, ROOT, Section, Texts, markdown_table

SAVED = common.RESULTS / "speed.json"
BATCH_SIZES = (20, 64, 256, 1024, 2048)
PYTORCH, LIGHTNING = "pytorch_baseline", "lightning_baseline"
PACKAGE, LOWER_BOUND = "fmnist_lightning", "lower_bound"
NAMES = {
    PYTORCH: "plain PyTorch",
    LIGHTNING: "textbook Lightning",
    PACKAGE: "fmnist_lightning",
    LOWER_BOUND: "lower bound: computation only",
}
# What is divided by the same of another program, at a batch size, and the upper limit of the ratio.
TARGETS = {
    "epoch / plain PyTorch": ("epoch", PYTORCH, 20, 0.70),
    "epoch / textbook Lightning": ("epoch", LIGHTNING, 20, 0.35),
    "training / lower bound, batch size 20": ("train", LOWER_BOUND, 20, 1.30),
    "training / lower bound, batch size 256": ("train", LOWER_BOUND, 256, 1.08),
    "training / lower bound, batch size 1,024": ("train", LOWER_BOUND, 1024, 1.08),
    "training / lower bound, batch size 2,048": ("train", LOWER_BOUND, 2048, 1.08),
    "validation / plain PyTorch": ("validation", PYTORCH, 20, 0.20),
    "peak memory / plain PyTorch": ("peak_mib", PYTORCH, 20, 1.25),
}

Run = dict[str, Any]


class Times:
    """The times of saved runs of the work of the article."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)

    def each_round(self, part: str, program: str, batch_size: int = 20) -> list[float]:
        """One value for each round: the median of its epochs but the first, or ``part`` itself."""
        name, *options = program.split()
        expected = {"program": name, "batch_size": batch_size, "options": options}
        runs = [run for run in self.runs if expected.items() <= run.items()]
        if part in ("first_batch", "peak_mib"):
            return [run[part] for run in runs]
        return [statistics.median(epoch[part] for epoch in run["epochs"][1:]) for run in runs]

    def median(self, part: str, program: str, batch_size: int = 20) -> float:
        """The median over the rounds."""
        return statistics.median(self.each_round(part, program, batch_size))

    def ratios(
        self, part: str, other: str, batch_size: int = 20, program: str = PACKAGE
    ) -> list[float]:
        """This project's time or memory divided by that of another program, for each round."""
        values = (self.each_round(part, name, batch_size) for name in (program, other))
        return [value / other_value for value, other_value in zip(*values, strict=True)]


def article_table(times: Times) -> str:
    """The work of the article, one line for each program."""
    rows = []
    for program, name in NAMES.items():
        train, validation, epoch, memory, first = (
            times.median(part, program)
            for part in ("train", "validation", "epoch", "peak_mib", "first_batch")
        )
        seconds = (f"{train:.2f}", f"{validation:.2f}", f"{epoch:.2f}")
        rows.append([name, *seconds, f"{48_000 / train:,.0f}", f"{memory:.0f}", f"{first:.1f}"])
    columns = ["program", "training s:", "validation s:", "epoch s:", "images/s:", "memory MiB:"]
    return markdown_table([*columns, "first batch s:"], rows)


def target_table(times: Times) -> str:
    """Each ratio and its target."""
    rows = []
    for name, (part, other, batch_size, limit) in TARGETS.items():
        values = times.ratios(part, other, batch_size)
        spread = f"{min(values):.2f} to {max(values):.2f}"
        rows.append([name, f"{statistics.median(values):.2f}", spread, f"{limit:.2f}"])
    columns = ["fmnist_lightning / other", "median:", "range of the rounds:", "target: at most:"]
    return markdown_table(columns, rows)


def batch_table(times: Times) -> str:
    """Images per second in training, by batch size."""
    rows = []
    for program, name in NAMES.items():
        rates = (48_000 / times.median("train", program, size) for size in BATCH_SIZES)
        rows.append([name, *(f"{rate:,.0f}" for rate in rates)])
    return markdown_table(["batch size", *(f"{size:,}:" for size in BATCH_SIZES)], rows)


def count_lines(*paths: str) -> int:
    """The lines of some files of this repository."""
    return sum(len((ROOT / path).read_text().splitlines()) for path in paths)


def versions_table(times: Times) -> str:
    """Lines of code and seconds of the same training in three versions."""
    tour = re.search(r"## Code tour\n(?:.*\n)*?((?:\d+\. .*\n)+)", README.read_text())
    assert tour
    core = re.findall(r"`([\w/]+\.py)`", tour[1])  # the files in its first numbered list
    num_core = round(count_lines(*(f"fmnist_lightning/{path}" for path in core)), -2)
    rows = []
    for program, file, adds in (
        (PYTORCH, "plain_pytorch.py", "nothing: the tutorial as one loop"),
        (LIGHTNING, "minimal_lightning.py", "Lightning's loops, devices, checkpoints, logs"),
        (PACKAGE, "", "images in memory, augmentation, any network and optimizer, more metrics"),
    ):
        path = f"examples/{file}"
        name = f"[{file}]({path})" if file else "this package"
        lines = str(count_lines(path)) if file else f"about {num_core:,} (core)"
        rows.append([name, lines, f"{times.median('epoch', program):.2f}", adds])
    return markdown_table(["version", "lines:", "s/epoch:", "adds"], rows)


def texts() -> Texts:
    """The sections of the pages."""
    saved = json.loads(SAVED.read_text())
    times = Times(run for run in saved["runs"] if run["section"] in ("article", "batch size"))
    machine = common.describe_machine(saved["machine"])
    page = [
        "### The work of the article: an epoch with batch size 20\n",
        article_table(times),
        "### Ratios and their targets\n",
        target_table(times),
        "### Training: images per second\n",
        batch_table(times),
        f"Medians; ratios within a round. {machine}.\n",
    ]
    return {
        Section(README, "versions", "speed.py"): versions_table(times),
        Section(README, "speed", "speed.py"): f"{article_table(times)}\nMedians. {machine}.\n",
        Section(DOCS / "benchmarks.md", "speed", "speed.py"): "\n".join(page),
    }
