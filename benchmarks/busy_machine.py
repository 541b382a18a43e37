"""Measures how much longer commands take while one or two other programs keep a CPU busy each.

    python benchmarks/busy_machine.py

Before each command, the busy programs start; all commands take turns for several rounds. Seconds go
to `results/busy_machine.json`, a table to docs/benchmarks.md. Nothing else should run on the
machine.
"""

import json
import statistics
import subprocess
import sys

import common
from common import DOCS, RESULTS, ROOT, Section, Texts, markdown_table

SAVED = RESULTS / "busy_machine.json"
NUM_BUSY = (0, 1, 2)  # other programs
NUM_ROUNDS = 5
LIMITS = {1: 2.0, 2: 3.5}  # times the quiet time, for the first two commands
FIT = ["-m", "fmnist_lightning", "fit", "--trainer.enable_progress_bar", "false"]
ARTICLE = [*FIT, "--config", str(ROOT / "configs/article.yaml"), "--trainer.max_epochs", "1"]
DEFAULT = [*FIT, "--trainer.max_epochs", "2"]
COMMANDS = {
    "article's config, 1 epoch": ARTICLE,
    "default config, 2 epochs": DEFAULT,
    "article's config, `--num_threads 2`": [*ARTICLE, "--num_threads", "2"],
    "default config, `--num_threads 2`": [*DEFAULT, "--num_threads", "2"],
    "plain PyTorch, 1 epoch": [str(ROOT / "examples/plain_pytorch.py"), "--epochs", "1"],
}


def time_command(command: list[str], num_busy: int) -> float:
    """Seconds of a command, with its start, in an empty folder beside busy programs."""
    with common.empty_folder() as folder:
        loop = [sys.executable, "-c", "while True: pass"]
        others = [subprocess.Popen(loop) for _ in range(num_busy)]
        try:
            return common.run_python(folder, *command)
        finally:
            for process in others:
                process.kill()
                process.wait()


def measure() -> None:
    """Times each command beside each number of busy programs, in turns."""
    seconds: dict[str, dict[str, list[float]]] = {
        name: {str(num): [] for num in NUM_BUSY} for name in COMMANDS
    }
    for _ in range(NUM_ROUNDS):
        for name, command in COMMANDS.items():
            for num in NUM_BUSY:
                seconds[name][str(num)].append(time_command(command, num))
    common.save(SAVED, seconds=seconds)


def texts() -> Texts:
    """Median seconds of each command, and their ratios to the quiet machine."""
    saved = json.loads(SAVED.read_text())
    rows = []
    for name, by_num in saved["seconds"].items():
        quiet, one, two = (statistics.median(by_num[str(num)]) for num in NUM_BUSY)
        seconds = [f"{quiet:.1f}", f"{one:.1f}", f"{two:.1f}"]
        ratios = [f"{one / quiet:.2f}", f"{two / quiet:.2f}"]
        rows.append([name, *seconds, *ratios, str(len(by_num["0"]))])
    columns = ["command", "quiet, s:", "one busy program, s:", "two, s:", "one / quiet:"]
    table = markdown_table([*columns, "two / quiet:", "runs:"], rows)
    limits = " and ".join(f"{limit:.1f}" for limit in LIMITS.values())
    note = f"Limits for the first two: {limits} times. {common.describe_machine(saved['machine'])}."
    return {Section(DOCS / "benchmarks.md", "busy machine"): f"{table}\n{note}\n"}


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
