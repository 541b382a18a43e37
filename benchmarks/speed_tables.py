"""The tables and the chart of what `speed.py` measured."""

import json
import re
import statistics
from collections.abc import Iterable
from typing import Any

import common
from common import DOCS, README, ROOT, Section, Texts, markdown_table
from matplotlib.figure import Figure

from fmnist_lightning.figures import SMALL, new_figure, styled

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
HELP = "`--help` / `import lightning.pytorch.cli`"
HELP_LIMIT = 1.30
EXAMPLES = {PYTORCH: "plain_pytorch.py", LIGHTNING: "minimal_lightning.py"}
# What the three versions of the program add.
ADDS = {
    PYTORCH: "nothing: the tutorial as one loop",
    LIGHTNING: "Lightning's loops, devices, checkpoints, logs",
    PACKAGE: "images in memory, augmentation, any network and optimizer, more metrics",
}

Run = dict[str, Any]


class Times:
    """The times of saved runs of the work of the article."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)

    def each_round(
        self, part: str, program: str, batch_size: int = 20, options: Iterable[str] = ()
    ) -> list[float]:
        """One value for each round: the median of its epochs but the first, or ``part`` itself."""
        expected = {"program": program, "batch_size": batch_size, "options": list(options)}
        runs = [run for run in self.runs if expected.items() <= run.items()]
        if part in ("first_batch", "peak_mib"):
            return [run[part] for run in runs]
        return [statistics.median(epoch[part] for epoch in run["epochs"][1:]) for run in runs]

    def median(self, part: str, program: str, batch_size: int = 20) -> float:
        """The median over the rounds."""
        return statistics.median(self.each_round(part, program, batch_size))

    def images_per_second(self, program: str) -> list[float]:
        """In training, for each batch size."""
        return [48_000 / self.median("train", program, size) for size in BATCH_SIZES]

    def ratios(self, part: str, other: str, batch_size: int = 20) -> list[float]:
        """This project's time or memory divided by that of another program, for each round."""
        values = (self.each_round(part, program, batch_size) for program in (PACKAGE, other))
        return [value / other_value for value, other_value in zip(*values, strict=True)]


def load(*sections: str) -> list[Run]:
    """The saved runs of some sections."""
    return [run for run in json.loads(SAVED.read_text())["runs"] if run["section"] in sections]


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
    ratios = {
        name: (times.ratios(part, other, batch_size), limit)
        for name, (part, other, batch_size, limit) in TARGETS.items()
    }
    ratios[HELP] = ([run["help"] / run["import"] for run in load("help")], HELP_LIMIT)
    rows = []
    for name, (values, limit) in ratios.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        rows.append([name, f"{statistics.median(values):.2f}", spread, f"{limit:.2f}"])
    columns = ["fmnist_lightning / other", "median:", "range of the rounds:", "target: at most:"]
    return markdown_table(columns, rows)


def batch_table(times: Times) -> str:
    """Images per second in training, by batch size."""
    rows = (
        [name, *(f"{rate:,.0f}" for rate in times.images_per_second(program))]
        for program, name in NAMES.items()
    )
    return markdown_table(["batch size", *(f"{size:,}:" for size in BATCH_SIZES)], rows)


def count_lines(folder: str, paths: Iterable[str]) -> int:
    """The lines of some files of a folder of this repository."""
    return sum(len((ROOT / folder / path).read_text().splitlines()) for path in paths)


def versions_table(times: Times) -> str:
    """Lines of code and seconds of the same training in three versions."""
    tour = re.search(r"## Code tour\n(?:.*\n)*?((?:\d+\. .*\n)+)", README.read_text())
    assert tour
    core = re.findall(r"`([\w/]+\.py)`", tour[1])  # the files in its first numbered list
    rows = []
    for program, adds in ADDS.items():
        if program in EXAMPLES:
            file = EXAMPLES[program]
            name, num_lines = f"[{file}](examples/{file})", f"{count_lines('examples', [file])}"
        else:
            name = "this package"
            num_lines = f"about {round(count_lines('fmnist_lightning', core), -2):,} (core)"
        rows.append([name, num_lines, f"{times.median('epoch', program):.2f}", adds])
    return markdown_table(["version", "lines:", "s/epoch:", "adds"], rows)


def texts() -> Texts:
    """The sections of the pages."""
    times = Times(load("article", "batch size"))
    machine = common.describe_machine(json.loads(SAVED.read_text())["machine"])
    page = [
        "### The work of the article: an epoch with batch size 20\n",
        article_table(times),
        "### Ratios and their targets\n",
        target_table(times),
        "### Training: images per second\n",
        batch_table(times),
        "![Images per second by batch size](../benchmarks/batch_size.png)\n",
        f"Medians; ratios within a round. {machine}.\n",
    ]
    return {
        Section(README, "versions", "speed.py"): versions_table(times),
        Section(README, "speed", "speed.py"): f"{article_table(times)}\nMedians. {machine}.\n",
        Section(DOCS / "benchmarks.md", "speed", "speed.py"): "\n".join(page),
    }


@styled
def plot_batch_sizes(times: Times) -> Figure:
    """Images per second by batch size, a line for each program."""
    figure = new_figure(3.0, "Training: images per second")
    axes = figure.add_subplot(xlabel="batch size")
    for program, name in NAMES.items():
        style = "o--" if program == LOWER_BOUND else "o-"
        rates = times.images_per_second(program)
        axes.semilogx(BATCH_SIZES, rates, style, markersize=4, label=name)
    axes.set_xticks(BATCH_SIZES, [f"{size:,}" for size in BATCH_SIZES])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y")
    figure.legend(loc="outside lower left", ncols=2, fontsize=SMALL)
    return figure


def write_pages() -> None:
    """Writes the sections and the chart."""
    common.write(texts())
    chart = plot_batch_sizes(Times(load("article", "batch size")))
    chart.savefig(common.BENCHMARKS / "batch_size.png")
