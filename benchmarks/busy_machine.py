"""Measures how much longer commands take while one or two other programs keep a CPU busy each.

    python benchmarks/busy_machine.py

Before each command, the busy programs start; all commands take turns for several rounds. Seconds go
to `results/busy_machine.json`, a table to docs/benchmarks.md. `--table` writes the table only.
Nothing else should run on the machine.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import DOCS, RESULTS, ROOT, Marks, describe_machine, save
from tqdm.auto import tqdm

from fmnist_lightning.data.download import download

SAVED = RESULTS / "busy_machine.json"
PAGE = DOCS / "benchmarks.md"
MARKS = Marks.of("busy machine", "busy_machine.py")
BUSY = (0, 1, 2)  # other programs
FIT = ("-m", "fmnist_lightning", "fit", "--trainer.enable_progress_bar", "false")
ARTICLE = (*FIT, "--config", "CONFIGS/article.yaml", "--trainer.max_epochs", "1")
DEFAULT = (*FIT, "--trainer.max_epochs", "2")
COMMANDS = {
    "article's config, 1 epoch": ARTICLE,
    "default config, 2 epochs": DEFAULT,
    "article's config, `--num_threads 2`": (*ARTICLE, "--num_threads", "2"),
    "default config, `--num_threads 2`": (*DEFAULT, "--num_threads", "2"),
    "plain PyTorch, 1 epoch": (str(ROOT / "examples" / "plain_pytorch.py"), "--epochs", "1"),
}
LIMITS = {1: 2.0, 2: 3.5}  # times the quiet time, for the first two


@contextlib.contextmanager
def busy_programs(num: int) -> Iterator[None]:
    """Runs endless loops, each in a process of its own."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(command: tuple[str, ...], num_busy: int, data: Path) -> float:
    """Seconds of a command, with its start, in an empty folder."""
    args = [each.replace("CONFIGS", str(ROOT / "configs")) for each in command]
    with tempfile.TemporaryDirectory() as folder, busy_programs(num_busy):
        (Path(folder) / "data").symlink_to(data.resolve())
        start = time.perf_counter()
        subprocess.run([sys.executable, *args], cwd=folder, capture_output=True, check=True)
        return time.perf_counter() - start


def table(saved: dict[str, Any]) -> str:
    """Median seconds of each command, and their ratios to the quiet machine."""
    lines = [
        "| | quiet, s | one busy program, s | two, s | one / quiet | two / quiet | runs |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, by_num in saved["seconds"].items():
        quiet, one, two = (statistics.median(by_num[str(num)]) for num in BUSY)
        cells = f"{quiet:.1f} | {one:.1f} | {two:.1f} | {one / quiet:.2f} | {two / quiet:.2f}"
        lines.append(f"| {name} | {cells} | {len(by_num['0'])} |")
    limits = " and ".join(f"{limit:.1f}" for limit in LIMITS.values())
    machine = describe_machine(saved["machine"])
    lines += ["", f"Limits for the first two: {limits} times. {machine}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, saves, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="for the default number of threads")
    parser.add_argument("--other-rounds", type=int, default=3, help="for the other commands")
    parser.add_argument("--data-dir", default="data", type=Path)
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table")
    args = parser.parse_args()
    if not args.table:
        download(args.data_dir)
        rounds = {
            name: args.rounds if index < len(LIMITS) else args.other_rounds
            for index, name in enumerate(COMMANDS)
        }
        todo = [
            (name, num)
            for index in range(max(rounds.values()))
            for name in COMMANDS
            for num in BUSY
            if index < rounds[name]
        ]
        seconds: dict[str, Any] = {name: {str(num): [] for num in BUSY} for name in COMMANDS}
        for name, num in tqdm(todo):
            took = measure(COMMANDS[name], num, args.data_dir)
            seconds[name][str(num)].append(round(took, 2))
        save(SAVED, command="python benchmarks/busy_machine.py", seconds=seconds)
    text = table(json.loads(SAVED.read_text()))
    MARKS.replace(PAGE, text)
    print(text)


if __name__ == "__main__":
    main()
