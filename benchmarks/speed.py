"""Measures this project against plain PyTorch, textbook Lightning and the computation alone.

    python benchmarks/speed.py

The four programs take turns for several rounds, each run in a separate process with a separate
terminal, so that progress bars are drawn. Raw results go to `results/speed.json`, tables to the
pages. Nothing else should run on the machine. Where there is a GPU, it measures that, and writes to
`results/gpu/speed.json`.
"""

import json
import re
import statistics
from collections.abc import Iterable

import common
import torch
from common import DOCS, README, RESULTS, ROOT, Section, Texts, markdown_table
from timing import PACKAGE, Times, take_turns

SAVED = RESULTS / "speed.json"
BATCH_SIZES = (20, 64, 256, 1024, 2048)
PYTORCH, LIGHTNING, LOWER_BOUND = "pytorch_baseline", "lightning_baseline", "lower_bound"
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

Work = dict[str, list[tuple[int, Iterable[str], Iterable[int], int]]]

LARGER = BATCH_SIZES[1:]
# For each section: numbers of rounds, programs with their options, batch sizes, epochs.
WORK: Work = {
    "article": [(5, NAMES, (20,), 3)],
    "batch size": [
        (5, (PACKAGE, LOWER_BOUND), LARGER, 5),
        (4, (PACKAGE, LOWER_BOUND), (256,), 5),  # so close to its target that it needs more rounds
        (3, (PYTORCH, LIGHTNING), LARGER, 2),
    ],
}
GPU_WORK: Work = {
    "GPU": [
        (3, (PACKAGE, LOWER_BOUND), (20, 128), 3),
        (1, (f"{PACKAGE} --trainer.capture=false", PYTORCH), (128,), 2),
    ]
}


def measure() -> None:
    """Measures all sections, and keeps the saved runs of others."""
    if torch.cuda.is_available():
        path, work, saved = RESULTS / "gpu" / "speed.json", GPU_WORK, []
    else:
        path, work, saved = SAVED, WORK, json.loads(SAVED.read_text())["runs"]
    runs = [run for run in saved if run["section"] not in work]
    for section, rows in work.items():
        runs += [{"section": section} | run for row in rows for run in take_turns(*row)]
    common.save(path, runs=runs)


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


def count_lines(path: str) -> int:
    """The lines of a file of this repository."""
    return len((ROOT / path).read_text().splitlines())


def versions_table(times: Times) -> str:
    """Lines of code and seconds of the same training in three versions."""
    # The files in the first list of the code tour.
    core = re.findall(r"^\d+\. `([\w/]+\.py)`: ", README.read_text(), re.MULTILINE)
    num_core = round(sum(count_lines(f"fmnist_lightning/{path}") for path in core), -2)
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
        Section(README, "versions"): versions_table(times),
        Section(README, "speed"): f"{article_table(times)}\nMedians. {machine}.\n",
        Section(DOCS / "benchmarks.md", "speed"): "\n".join(page),
    }


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
