"""Measures this project against a plain PyTorch loop, textbook Lightning and the bare computation.

Each is run as a process of its own in a terminal of its own, so that progress bars are drawn; all
of them in turn, several rounds. `python benchmarks/speed.py` measures, saves `results/speed.json`,
and writes charts and tables; `... article help` measures only these sections again, and
`... --report` only writes. Nothing else should run meanwhile.
"""

import argparse
import fcntl
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from results import ROOT, machine, machine_text, pyplot, replace_between

from fmnist_lightning.data import download as sources

HERE = ROOT / "benchmarks"
SAVED = HERE / "results" / "speed.json"
BATCH_SIZES = (20, 64, 256, 1024, 2048)
CLOSE_SIZES = (256,)  # so close to the target that more rounds are needed
TRAIN_SIZES = (6_000, 12_000, 24_000, 48_000)
OURS, PLAIN, TEXTBOOK, FLOOR = "fmnist_lightning", "plain", "textbook", "floor"
NAMES = {
    PLAIN: "plain PyTorch loop",
    TEXTBOOK: "textbook Lightning",
    OURS: "fmnist_lightning",
    FLOOR: "floor: computation only",
}
# What could be switched on or off, measured on the floor. The first line is as configs have it.
CHOICES: dict[str, list[str]] = {
    "float32, channels_last, 2 threads": [],
    "not channels_last": ["--contiguous"],
    "autocast to bfloat16": ["--bf16"],
    "torch.compile": ["--compile"],
    "fused optimiser": ["--fused"],
    "1 thread": ["--threads", "1"],
}
CHOICE_SIZES = (20, 256)
SECTIONS = ("article", "batch size", "train size", "default", "choices", "help")
SWIFT = 0.785  # validation accuracy
ARTICLE_EPOCHS = 15
TABLE = "<!-- speed: written by benchmarks/speed.py -->\n", "<!-- end of speed -->\n"

Run = dict[str, Any]


# ---- measuring ---------------------------------------------------------------------------------


def in_a_terminal(command: list[str], folder: str, environment: dict[str, str]) -> int:
    """Runs a command in a terminal of 100 columns, and exits with its output where it fails.

    Returns:
        The most memory it held, in KiB.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(ours, 65536):
                shown.extend(chunk)
        except OSError:  # how the end of a terminal shows
            pass

    reader = threading.Thread(target=read)
    reader.start()
    _, status, usage = os.wait4(process.pid, 0)
    reader.join()
    os.close(ours)
    code = os.waitstatus_to_exitcode(status)
    if code:
        sys.exit(f"{' '.join(command)}\nended with {code}:\n{shown.decode(errors='replace')}")
    return usage.ru_maxrss


def measure(
    contestant: str,
    data_dir: Path,
    batch_size: int = 20,
    train_size: int = 48_000,
    epochs: int = 2,
    options: Iterable[str] = (),
) -> Run:
    """Runs one of them once."""
    sizes = {"batch_size": batch_size, "train_size": train_size}
    if contestant == OURS:
        command = [sys.executable, "-m", "fmnist_lightning", "fit"]
        command += ["--config", str(ROOT / "configs" / "article.yaml")]
        command += [f"--data.{name}={value}" for name, value in sizes.items()]
        command += [f"--trainer.max_epochs={epochs}", f"--data.data_dir={data_dir}"]
    elif contestant == "default":
        command = [sys.executable, "-m", "fmnist_lightning", "fit", f"--data.data_dir={data_dir}"]
    else:
        command = [sys.executable, str(HERE / f"{contestant}.py")]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
        command += [f"--epochs={epochs}", f"--data-dir={data_dir}"]
    command += options
    if contestant in (OURS, "default"):
        command += ["--trainer.callbacks", "stopwatch.Stopwatch"]
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder, "times.json")
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
            "STOPWATCH": str(times),
            "TERM": "xterm-256color",
        }
        start = time.time()
        peak = in_a_terminal(command, folder, environment)
        taken = json.loads(times.read_text())
    run = {
        "contestant": contestant,
        **sizes,
        "options": list(options),
        "first_batch": round(taken["first_batch"] - start, 3),
        "peak_mib": round(peak / 1024, 1),
        "epochs": [
            {key: round(value, 4) for key, value in each.items()} for each in taken["epochs"]
        ],
    }
    print(
        f"{contestant:<17} batch {batch_size:>4}, {train_size:>6,} pictures: "
        + ", ".join(f"{each['train']:.2f} + {each['validation']:.2f}" for each in run["epochs"][:5])
        + f" s; {run['peak_mib']:.0f} MiB {' '.join(options)}",
        flush=True,
    )
    return run


def seconds_of(*command: str) -> float:
    """How long a command takes."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return round(time.perf_counter() - start, 3)


def measure_section(section: str, data_dir: Path) -> list[Run]:
    """Measures one of ``SECTIONS``, all that is compared in turn."""
    runs: list[Run] = []

    def add(round: int, *args: Any, **kwargs: Any) -> None:
        runs.append({"section": section, "round": round} | measure(*args, **kwargs))

    if section == "article":
        for round in range(5):
            for contestant in NAMES:
                add(round, contestant, data_dir, epochs=3)
    elif section == "batch size":
        for round in range(9):
            for batch_size in BATCH_SIZES[1:] if round < 5 else CLOSE_SIZES:
                for contestant in (OURS, FLOOR):
                    add(round, contestant, data_dir, batch_size, epochs=5)
        for round in range(3):
            for batch_size in BATCH_SIZES[1:]:
                for contestant in (PLAIN, TEXTBOOK):
                    add(round, contestant, data_dir, batch_size, epochs=2)
    elif section == "train size":
        for round in range(3):
            for train_size in TRAIN_SIZES:
                add(round, OURS, data_dir, train_size=train_size, epochs=3)
    elif section == "default":
        for round in range(3):
            add(round, "default", data_dir, 128, options=[f"--seed_everything={round}"])
    elif section == "choices":
        for round in range(3):
            for batch_size in CHOICE_SIZES:
                for options in CHOICES.values():
                    add(round, FLOOR, data_dir, batch_size, epochs=3, options=options)
    elif section == "help":
        for round in range(7):
            help = seconds_of("-m", "fmnist_lightning", "--help")
            imported = seconds_of("-c", "import lightning.pytorch.cli")
            runs.append({"section": section, "round": round, "help": help, "import": imported})
    return runs


# ---- summing up --------------------------------------------------------------------------------


class Summary:
    """The figures of a saved benchmark: medians, and ratios within a round.

    Args:
        saved: The content of ``SAVED``.
    """

    def __init__(self, saved: dict[str, Any]) -> None:
        self.saved = saved

    def each_round(
        self, section: str, part: str, contestant: str, batch_size: int = 20, **sizes: Any
    ) -> list[float]:
        """One value for each round: the median of its epochs but the first, or ``part`` itself."""
        if section == "batch size" and batch_size == 20:
            section = "article"
        wanted = {"section": section, "contestant": contestant, "batch_size": batch_size} | sizes
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

    def ratio(self, part: str, contestant: str, to: str, batch_size: int = 20) -> float:
        """The median over the rounds of the ratio of two contestants."""
        pairs = zip(
            self.each_round("batch size", part, contestant, batch_size),
            self.each_round("batch size", part, to, batch_size),
            strict=True,
        )
        return statistics.median(one / two for one, two in pairs)

    def seconds_to_accuracy(self) -> float:
        """Until the default config has validated at ``SWIFT``, from the start of its training."""
        times = []
        for run in self.saved["runs"]:
            if run["section"] == "default":
                past = 0.0
                for epoch in run["epochs"]:
                    past += epoch["epoch"]
                    if epoch["accuracy"] >= SWIFT:
                        break
                else:
                    past = float("inf")
                times.append(past)
        return statistics.median(times)

    def targets(self) -> list[tuple[str, float, float]]:
        """What was compared, the ratio, and the most that it should be."""
        article = ARTICLE_EPOCHS * self.median("batch size", "epoch", PLAIN)
        helps = statistics.median(
            run["help"] / run["import"] for run in self.saved["runs"] if run["section"] == "help"
        )
        return [
            ("epoch of the article's work / plain loop", self.ratio("epoch", OURS, PLAIN), 0.70),
            ("the same / textbook Lightning", self.ratio("epoch", OURS, TEXTBOOK), 0.35),
            ("its training part / floor, batches of 20", self.ratio("train", OURS, FLOOR), 1.30),
            *(
                (f"the same, batches of {size:,}", self.ratio("train", OURS, FLOOR, size), 1.08)
                for size in BATCH_SIZES
                if size >= 256
            ),
            ("validation / plain loop", self.ratio("validation", OURS, PLAIN), 0.20),
            (
                f"default config to {100 * SWIFT:.1f} % validation accuracy / "
                f"{ARTICLE_EPOCHS} epochs of the plain loop",
                self.seconds_to_accuracy() / article,
                0.04,
            ),
            ("peak memory / plain loop", self.ratio("peak_mib", OURS, PLAIN), 1.25),
            ("`--help` / `import lightning.pytorch.cli`", helps, 1.3),
        ]

    # ---- tables --------------------------------------------------------------------------------

    def article_table(self) -> str:
        """The article's work, one line for each contestant."""
        lines = [
            "| | training s | validation s | epoch s | pictures/s | memory MiB | first batch s |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for contestant, name in NAMES.items():
            train, validation, epoch, memory, first = (
                self.median("batch size", part, contestant)
                for part in ("train", "validation", "epoch", "peak_mib", "first_batch")
            )
            lines.append(
                f"| {name} | {train:.2f} | {validation:.2f} | {epoch:.2f} | "
                f"{48_000 / train:,.0f} | {memory:.0f} | {first:.1f} |"
            )
        return "\n".join(lines) + "\n"

    def target_table(self) -> str:
        """Each ratio beside its target."""
        lines = ["| | measured | at most |", "| --- | --- | --- |"]
        lines += [f"| {what} | {ratio:.2f} | {most:.2f} |" for what, ratio, most in self.targets()]
        return "\n".join(lines) + "\n"

    def batch_table(self) -> str:
        """Pictures per second in training, by batch size."""
        lines = [
            "| batch size | " + " | ".join(f"{size:,}" for size in BATCH_SIZES) + " |",
            "| --- |" + " --- |" * len(BATCH_SIZES),
        ]
        for contestant, name in NAMES.items():
            rates = (
                48_000 / self.median("batch size", "train", contestant, size)
                for size in BATCH_SIZES
            )
            lines.append(f"| {name} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")
        return "\n".join(lines) + "\n"

    def size_table(self) -> str:
        """Seconds by the size of the training set."""
        lines = [
            "| training pictures | training s | epoch s | first batch s |",
            "| --- | --- | --- | --- |",
        ]
        for size in TRAIN_SIZES:
            train, epoch, first = (
                self.median("train size", part, OURS, train_size=size)
                for part in ("train", "epoch", "first_batch")
            )
            lines.append(f"| {size:,} | {train:.2f} | {epoch:.2f} | {first:.1f} |")
        return "\n".join(lines) + "\n"

    def choice_table(self) -> str:
        """What could be switched, as seconds of training without anything around."""
        head = " | ".join(f"batches of {size}" for size in CHOICE_SIZES)
        lines = [f"| training s on the floor | {head} |", "| --- |" + " --- |" * len(CHOICE_SIZES)]
        for name, options in CHOICES.items():
            cells = (
                f"{self.median('choices', 'train', FLOOR, size, options=options):.2f}"
                for size in CHOICE_SIZES
            )
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def machine_line(self) -> str:
        """What it was measured on."""
        return f"Medians; ratios within a round. {machine_text(self.saved['machine'])}.\n"


def write_charts(summary: Summary) -> None:
    """Draws `batch_size.png` and `train_size.png`."""
    plt = pyplot()
    colours = {PLAIN: "#8a8a8a", TEXTBOOK: "#d55e00", OURS: "#0072b2", FLOOR: "#000000"}

    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    for contestant, name in NAMES.items():
        rates = [
            48_000 / summary.median("batch size", "train", contestant, size) for size in BATCH_SIZES
        ]
        axes.plot(
            BATCH_SIZES,
            rates,
            marker="o",
            markersize=5,
            linewidth=2.6 if contestant == OURS else 1.6,
            linestyle="--" if contestant == FLOOR else "-",
            color=colours[contestant],
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(BATCH_SIZES, [f"{size:,}" for size in BATCH_SIZES])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("batch size")
    axes.set_title("Training: pictures per second", loc="left", fontweight="bold")
    axes.legend(frameon=False)
    figure.savefig(HERE / "batch_size.png", dpi=150)
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    for part, name, colour in (
        ("epoch", "epoch, with validation of 12,000", "#0072b2"),
        ("first_batch", "from the command to the first batch", "#8a8a8a"),
    ):
        values = [summary.median("train size", part, OURS, train_size=size) for size in TRAIN_SIZES]
        axes.plot(TRAIN_SIZES, values, marker="o", color=colour, linewidth=2, label=name)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xticks(TRAIN_SIZES, [f"{size:,}" for size in TRAIN_SIZES])
    axes.set_xlabel("training pictures")
    axes.set_title("Article's work: seconds", loc="left", fontweight="bold")
    axes.legend(frameon=False)
    figure.savefig(HERE / "train_size.png", dpi=150)
    plt.close(figure)


def tables(summary: Summary) -> dict[Path, str]:
    """What stands between the marks of each page."""
    return {
        ROOT / "README.md": summary.article_table() + "\n" + summary.machine_line(),
        HERE / "README.md": "\n".join(
            [
                "### The article's work: batches of 20, an epoch\n",
                summary.article_table(),
                "### Ratios and their targets\n",
                summary.target_table(),
                "### Training, pictures per second\n",
                summary.batch_table(),
                "![pictures per second by batch size](batch_size.png)\n",
                "### The size of the training set\n",
                summary.size_table(),
                "![seconds by training pictures](train_size.png)\n",
                "### What was chosen, and what not\n",
                summary.choice_table(),
                summary.machine_line(),
            ]
        ),
    }


def write_tables(summary: Summary) -> None:
    """Puts the tables into their places."""
    for path, text in tables(summary).items():
        replace_between(path, TABLE, text)


def main() -> None:
    """Measures, or only writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"default: all of {', '.join(SECTIONS)}")
    parser.add_argument("--report", action="store_true", help="write charts and tables only")
    parser.add_argument("--data-dir", default="data", type=Path)
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if not options.report:
        data_dir = options.data_dir.absolute()
        sources.fetch(data_dir)
        sections = options.sections or SECTIONS
        kept = json.loads(SAVED.read_text())["runs"] if SAVED.exists() else []
        runs = [run for run in kept if run["section"] not in sections]
        for section in sections:
            runs += measure_section(section, data_dir)
        runs.sort(key=lambda run: SECTIONS.index(run["section"]))
        saved = {"command": "make bench", "machine": machine(), "runs": runs}
        SAVED.write_text(json.dumps(saved, indent=1) + "\n")
    summary = Summary(json.loads(SAVED.read_text()))
    write_charts(summary)
    write_tables(summary)
    print(summary.article_table(), summary.target_table(), sep="\n")


if __name__ == "__main__":
    main()
