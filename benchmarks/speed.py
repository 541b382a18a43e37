"""Measures this project against plain PyTorch, textbook Lightning and the computation alone.

    python benchmarks/speed.py

The four programs take turns for several rounds, each run in a separate process with a separate
terminal, so that progress bars are drawn. Raw results go to `results/speed.json`, tables and charts
to the pages. `... article help` measures these sections only, `... --table` writes only. Nothing
else should run on the machine.
"""

import argparse
import fcntl
import json
import os
import pty
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

import speed_tables
from common import BENCHMARKS, RESULTS, ROOT, save
from speed_tables import (
    BATCH_SIZES,
    LIGHTNING,
    LOWER_BOUND,
    NAMES,
    OURS,
    PYTORCH,
    SETTINGS,
    SETTINGS_SIZES,
    TRAIN_SIZES,
)

from fmnist_lightning.data.download import download

SAVED = RESULTS / "speed.json"
CLOSE_SIZES = (256,)  # batch sizes so close to their target that they need more rounds
SECTIONS = ("article", "batch size", "train size", "default", "settings", "help")

Run = dict[str, Any]


def run_in_terminal(command: list[str], folder: str, environment: dict[str, str]) -> int:
    """Runs a command in a terminal of 100 columns, and exits with its output where it fails.

    Returns:
        Its peak memory in KiB.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    output = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(master, 65536):
                output.extend(chunk)
        except OSError:  # the end of a terminal
            pass

    reader = threading.Thread(target=read)
    reader.start()
    _, status, usage = os.wait4(process.pid, 0)
    reader.join()
    os.close(master)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        sys.exit(f"{' '.join(command)}\nended with {code}:\n{output.decode(errors='replace')}")
    return usage.ru_maxrss


def measure(
    program: str,
    data_dir: Path,
    batch_size: int = 20,
    train_size: int = 48_000,
    epochs: int = 2,
    options: Iterable[str] = (),
    python: str = sys.executable,
) -> Run:
    """Runs one of the programs once; only this project's can have another ``train_size``."""
    if program in (OURS, "default"):
        command = [python, "-m", "fmnist_lightning", "fit", f"--data.data_dir={data_dir}"]
        if program == OURS:
            command += ["--config", str(ROOT / "configs" / "article.yaml")]
            command += [f"--data.batch_size={batch_size}", f"--data.train_size={train_size}"]
            command += [f"--trainer.max_epochs={epochs}"]
        command += [*options, "--trainer.callbacks", "stopwatch.Stopwatch"]
    else:
        command = [python, str(BENCHMARKS / f"{program}.py"), f"--data-dir={data_dir}"]
        command += [f"--batch-size={batch_size}", f"--epochs={epochs}", *options]
    with tempfile.TemporaryDirectory() as folder:
        times_file = Path(folder, "times.json")
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, BENCHMARKS, ROOT / "examples"))),
            "TIMES_FILE": str(times_file),
            "TERM": "xterm-256color",
        }
        start = time.time()
        peak = run_in_terminal(command, folder, environment)
        times = json.loads(times_file.read_text())
    run = {
        "program": program,
        "batch_size": batch_size,
        "train_size": train_size,
        "options": list(options),
        "first_batch": round(times["first_batch"] - start, 3),
        "peak_mib": round(peak / 1024, 1),
        "epochs": [
            {key: round(value, 4) for key, value in each.items()} for each in times["epochs"]
        ],
    }
    print(
        f"{program:<18} batch size {batch_size:>4}, {train_size:>6,} images: "
        + ", ".join(f"{each['train']:.2f} + {each['validation']:.2f}" for each in run["epochs"][:5])
        + f" s; {run['peak_mib']:.0f} MiB {' '.join(options)}",
        flush=True,
    )
    return run


def time_command(*command: str) -> float:
    """Runs Python with some arguments, and returns the seconds that it takes."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return round(time.perf_counter() - start, 3)


def measure_section(section: str, data_dir: Path) -> list[Run]:
    """Measures one of ``SECTIONS``; the programs that are compared take turns."""
    runs: list[Run] = []

    def add(round: int, *args: Any, **kwargs: Any) -> None:
        runs.append({"section": section, "round": round} | measure(*args, **kwargs))

    if section == "article":
        for round in range(5):
            for program in NAMES:
                add(round, program, data_dir, epochs=3)
    elif section == "batch size":
        for round in range(9):
            for batch_size in BATCH_SIZES[1:] if round < 5 else CLOSE_SIZES:
                for program in (OURS, LOWER_BOUND):
                    add(round, program, data_dir, batch_size, epochs=5)
        for round in range(3):
            for batch_size in BATCH_SIZES[1:]:
                for program in (PYTORCH, LIGHTNING):
                    add(round, program, data_dir, batch_size, epochs=2)
    elif section == "train size":
        for round in range(3):
            for train_size in TRAIN_SIZES:
                add(round, OURS, data_dir, train_size=train_size, epochs=3)
    elif section == "default":
        for round in range(3):
            add(round, "default", data_dir, 128, options=[f"--seed_everything={round}"])
    elif section == "settings":
        for round in range(3):
            for batch_size in SETTINGS_SIZES:
                for options in SETTINGS.values():
                    add(round, LOWER_BOUND, data_dir, batch_size, epochs=3, options=options)
    elif section == "help":
        for round in range(7):
            help = time_command("-m", "fmnist_lightning", "--help")
            imported = time_command("-c", "import lightning.pytorch.cli")
            runs.append({"section": section, "round": round, "help": help, "import": imported})
    return runs


def main() -> None:
    """Measures, saves, and writes tables and charts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", help=f"default: all of {', '.join(SECTIONS)}")
    parser.add_argument("--table", action="store_true", help="run nothing, write the tables only")
    parser.add_argument("--data-dir", default="data", type=Path)
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"unknown sections {', '.join(sorted(unknown))}; use {', '.join(SECTIONS)}")
    if not args.table:
        data_dir = args.data_dir.absolute()
        download(data_dir)
        sections = args.sections or SECTIONS
        kept = json.loads(SAVED.read_text())["runs"] if SAVED.exists() else []
        runs = [run for run in kept if run["section"] not in sections]
        for section in sections:
            runs += measure_section(section, data_dir)
        runs.sort(key=lambda run: SECTIONS.index(run["section"]))
        save(SAVED, command="make bench", runs=runs)
    summary = speed_tables.Summary(json.loads(SAVED.read_text()))
    speed_tables.write_charts(summary)
    for path, text in speed_tables.tables(summary).items():
        speed_tables.MARKS.replace(path, text)
    print(summary.article_table(), summary.target_table(), sep="\n")


if __name__ == "__main__":
    main()
