"""Summary, tables and charts of what `speed.py` measured."""

import statistics
from pathlib import Path
from typing import Any

from common import BENCHMARKS, DOCS, README, Marks, describe_machine, pyplot

BATCH_SIZES = (20, 64, 256, 1024, 2048)
TRAIN_SIZES = (6_000, 12_000, 24_000, 48_000)
OURS, PYTORCH, LIGHTNING, LOWER_BOUND = (
    *("fmnist_lightning", "pytorch_baseline", "lightning_baseline", "lower_bound"),
)
NAMES = {
    PYTORCH: "plain PyTorch",
    LIGHTNING: "textbook Lightning",
    OURS: "fmnist_lightning",
    LOWER_BOUND: "lower bound: computation only",
}
# What could be switched on or off, measured with the lower bound. The first is that of the configs.
SETTINGS: dict[str, list[str]] = {
    "float32, channels_last, 2 threads": [],
    "not channels_last": ["--contiguous"],
    "autocast to bfloat16": ["--bf16"],
    "torch.compile of the network": ["--compile"],
    "fused optimizer": ["--fused"],
    "1 thread": ["--threads", "1"],
}
SETTINGS_SIZES = (20, 256)  # their batch sizes
TARGET_ACCURACY = 0.785  # of the validation, 0 to 1
ARTICLE_EPOCHS = 15
MARKS = Marks.of("speed", "speed.py")


class Summary:
    """Medians of a saved benchmark, and ratios within a round.

    Args:
        saved: The content of `results/speed.json`.
    """

    def __init__(self, saved: dict[str, Any]) -> None:
        self.saved = saved

    def each_round(
        self, section: str, part: str, program: str, batch_size: int = 20, **sizes: Any
    ) -> list[float]:
        """One value for each round: the median of its epochs but the first, or ``part`` itself."""
        if section == "batch size" and batch_size == 20:
            section = "article"
        wanted = {"section": section, "program": program, "batch_size": batch_size} | sizes
        runs = [
            run
            for run in self.saved["runs"]
            if all(run.get(key) == value for key, value in wanted.items())
        ]
        if part in ("first_batch", "peak_mib"):
            return [run[part] for run in runs]
        return [statistics.median(each[part] for each in run["epochs"][1:]) for run in runs]

    def median(self, *args: Any, **kwargs: Any) -> float:
        """The median over the rounds; arguments as for ``each_round``."""
        return statistics.median(self.each_round(*args, **kwargs))

    def ratios(self, part: str, to: str, batch_size: int = 20) -> list[float]:
        """This project's time or memory divided by that of another program, for each round."""
        ours, theirs = (
            self.each_round("batch size", part, program, batch_size) for program in (OURS, to)
        )
        return [one / two for one, two in zip(ours, theirs, strict=True)]

    def seconds_to_accuracy(self) -> list[float]:
        """From the start of training with the default config to ``TARGET_ACCURACY``, each run."""
        times = []
        for run in self.saved["runs"]:
            if run["section"] == "default":
                seconds = 0.0
                for epoch in run["epochs"]:
                    seconds += epoch["epoch"]
                    if epoch["accuracy"] >= TARGET_ACCURACY:
                        break
                else:
                    seconds = float("inf")
                times.append(seconds)
        return times

    def targets(self) -> list[tuple[str, list[float], float]]:
        """What is compared, the ratio in each round, and the upper limit of their median."""
        article = ARTICLE_EPOCHS * self.median("batch size", "epoch", PYTORCH)
        helps = [run for run in self.saved["runs"] if run["section"] == "help"]
        limits = {size: 1.30 if size == 20 else 1.08 for size in BATCH_SIZES if size != 64}
        return [
            ("epoch / plain PyTorch", self.ratios("epoch", PYTORCH), 0.70),
            ("epoch / textbook Lightning", self.ratios("epoch", LIGHTNING), 0.35),
            *(
                (
                    f"training / lower bound, batch size {size:,}",
                    self.ratios("train", LOWER_BOUND, size),
                    limit,
                )
                for size, limit in limits.items()
            ),
            ("validation / plain PyTorch", self.ratios("validation", PYTORCH), 0.20),
            (
                f"default config to {100 * TARGET_ACCURACY:.1f} % validation accuracy / "
                f"{ARTICLE_EPOCHS} epochs of plain PyTorch",
                [seconds / article for seconds in self.seconds_to_accuracy()],
                0.04,
            ),
            ("peak memory / plain PyTorch", self.ratios("peak_mib", PYTORCH), 1.25),
            (
                "`--help` / `import lightning.pytorch.cli`",
                [run["help"] / run["import"] for run in helps],
                1.30,
            ),
        ]

    def article_table(self) -> str:
        """The work of the article, one line for each program."""
        lines = [
            "| | training s | validation s | epoch s | images/s | memory MiB | first batch s |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for program, name in NAMES.items():
            train, validation, epoch, memory, first = (
                self.median("batch size", part, program)
                for part in ("train", "validation", "epoch", "peak_mib", "first_batch")
            )
            lines.append(
                f"| {name} | {train:.2f} | {validation:.2f} | {epoch:.2f} | "
                f"{48_000 / train:,.0f} | {memory:.0f} | {first:.1f} |"
            )
        return "\n".join(lines) + "\n"

    def target_table(self) -> str:
        """Each ratio and its target."""
        lines = [
            "| fmnist_lightning / other | median | range of the rounds | target: at most |",
            "| --- | ---: | ---: | ---: |",
        ]
        for what, ratios, most in self.targets():
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            lines.append(f"| {what} | {statistics.median(ratios):.2f} | {spread} | {most:.2f} |")
        return "\n".join(lines) + "\n"

    def batch_table(self) -> str:
        """Images per second in training, by batch size."""
        lines = [
            "| batch size | " + " | ".join(f"{size:,}" for size in BATCH_SIZES) + " |",
            "| --- |" + " ---: |" * len(BATCH_SIZES),
        ]
        for program, name in NAMES.items():
            rates = (
                48_000 / self.median("batch size", "train", program, size) for size in BATCH_SIZES
            )
            lines.append(f"| {name} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")
        return "\n".join(lines) + "\n"

    def size_table(self) -> str:
        """Seconds by the number of training images."""
        lines = [
            "| training images | training s | epoch s | first batch s |",
            "| ---: | ---: | ---: | ---: |",
        ]
        for size in TRAIN_SIZES:
            train, epoch, first = (
                self.median("train size", part, OURS, train_size=size)
                for part in ("train", "epoch", "first_batch")
            )
            lines.append(f"| {size:,} | {train:.2f} | {epoch:.2f} | {first:.1f} |")
        return "\n".join(lines) + "\n"

    def settings_table(self) -> str:
        """Seconds of training of the lower bound with each setting."""
        head = " | ".join(f"batch size {size}" for size in SETTINGS_SIZES)
        lines = [f"| lower bound, training s | {head} |"]
        lines += ["| --- |" + " ---: |" * len(SETTINGS_SIZES)]
        for name, options in SETTINGS.items():
            cells = (
                f"{self.median('settings', 'train', LOWER_BOUND, size, options=options):.2f}"
                for size in SETTINGS_SIZES
            )
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def machine_line(self) -> str:
        """What it was measured on."""
        return f"Medians; ratios within a round. {describe_machine(self.saved['machine'])}.\n"


def tables(summary: Summary) -> dict[Path, str]:
    """The text between the marks of each page."""
    sections = [
        "### The work of the article: an epoch with batch size 20\n",
        summary.article_table(),
        "### Ratios and their targets\n",
        summary.target_table(),
        "### Training: images per second\n",
        summary.batch_table(),
        "![Images per second by batch size](../benchmarks/batch_size.png)\n",
        "### Size of the training set\n",
        summary.size_table(),
        "![Seconds by number of training images](../benchmarks/train_size.png)\n",
        "### Settings that were compared\n",
        summary.settings_table(),
        summary.machine_line(),
    ]
    return {
        README: summary.article_table() + "\n" + summary.machine_line(),
        DOCS / "benchmarks.md": "\n".join(sections),
    }


def write_charts(summary: Summary) -> None:
    """Draws `batch_size.png` and `train_size.png`."""
    plt = pyplot()
    colors = {PYTORCH: "#8a8a8a", LIGHTNING: "#d55e00", OURS: "#0072b2", LOWER_BOUND: "#000000"}
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    for program, name in NAMES.items():
        rates = [
            48_000 / summary.median("batch size", "train", program, size) for size in BATCH_SIZES
        ]
        width, style = 2.6 if program == OURS else 1.6, "--" if program == LOWER_BOUND else "-"
        line = {"color": colors[program], "label": name, "linewidth": width, "linestyle": style}
        axes.plot(BATCH_SIZES, rates, marker="o", markersize=5, **line)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BATCH_SIZES, [f"{size:,}" for size in BATCH_SIZES])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("batch size")
    axes.set_title("Training: images per second", loc="left", fontweight="bold")
    axes.legend(frameon=False)
    figure.savefig(BENCHMARKS / "batch_size.png", dpi=150)
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    for part, name, color in (
        ("epoch", "epoch, with validation on 12,000 images", "#0072b2"),
        ("first_batch", "from the command to the first batch", "#8a8a8a"),
    ):
        values = [summary.median("train size", part, OURS, train_size=size) for size in TRAIN_SIZES]
        axes.plot(TRAIN_SIZES, values, marker="o", color=color, linewidth=2, label=name)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xticks(TRAIN_SIZES, [f"{size:,}" for size in TRAIN_SIZES])
    axes.set_xlabel("training images")
    axes.set_title("The work of the article: seconds", loc="left", fontweight="bold")
    axes.legend(frameon=False)
    figure.savefig(BENCHMARKS / "train_size.png", dpi=150)
    plt.close(figure)
