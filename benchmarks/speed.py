"""Measures this project against plain PyTorch, textbook Lightning and the computation alone.

    python benchmarks/speed.py

The four programs take turns for several rounds, each run in a separate process with a separate
terminal, so that progress bars are drawn. Raw results go to `results/speed.json`, tables and a
chart to the pages. `... article help` measures these sections only, `... --table` writes only.
Nothing else should run on the machine. Where there is a GPU, it measures that, and writes to
`results/gpu/speed.json`.
"""

import contextlib
import fcntl
import itertools
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterable
from pathlib import Path

import speed_tables
import torch
from common import BENCHMARKS, RESULTS, ROOT, create_parser, save, time_python
from speed_tables import (
    BATCH_SIZES,
    LIGHTNING,
    LOWER_BOUND,
    NAMES,
    PACKAGE,
    PYTORCH,
    SAVED,
    Run,
)

from fmnist_lightning.data.download import download

LARGER = BATCH_SIZES[1:]
# For each section: numbers of rounds, programs, batch sizes, epochs.
WORK: dict[str, list[tuple[int, Iterable[str], Iterable[int], int]]] = {
    "article": [(5, NAMES, (20,), 3)],
    "batch size": [
        (5, (PACKAGE, LOWER_BOUND), LARGER, 5),
        (4, (PACKAGE, LOWER_BOUND), (256,), 5),  # so close to its target that it needs more rounds
        (3, (PYTORCH, LIGHTNING), LARGER, 2),
    ],
}
SECTIONS = (*WORK, "help")
# On a GPU: numbers of rounds, programs with their options, batch sizes, epochs.
GPU_WORK: list[tuple[int, list[tuple[str, list[str]]], Iterable[int], int]] = [
    (3, [(PACKAGE, []), (LOWER_BOUND, [])], (20, 128), 3),
    (1, [(PACKAGE, ["--trainer.capture=false"]), (PYTORCH, [])], (128,), 2),
]


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
    with contextlib.suppress(OSError):  # the end of a terminal
        while chunk := os.read(master, 65536):
            output.extend(chunk)
    _, status, usage = os.wait4(process.pid, 0)
    os.close(master)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        sys.exit(f"{' '.join(command)}\nended with {code}:\n{output.decode(errors='replace')}")
    return usage.ru_maxrss


def seconds_of(epoch: list[float], next_epoch: list[float]) -> dict[str, float]:
    """The seconds of the parts of an epoch, which lasts until the next one if nothing ends it."""
    start, trained, validated, end, *_ = [*epoch, *next_epoch]
    seconds = {"train": trained - start, "validation": validated - trained, "epoch": end - start}
    return {part: round(value, 4) for part, value in seconds.items()}


def measure(
    program: str,
    data_dir: Path,
    batch_size: int = 20,
    epochs: int = 2,
    options: Iterable[str] = (),
    python: str = sys.executable,
) -> Run:
    """Runs one of the programs once."""
    if program == PACKAGE:
        command = [python, "-m", "fmnist_lightning", "fit", f"--data.data_dir={data_dir}"]
        command += ["--config", str(ROOT / "configs" / "article.yaml")]
        command += [f"--data.batch_size={batch_size}", f"--trainer.max_epochs={epochs}"]
        command += [*options, "--trainer.callbacks", "lightning_baseline.EpochTimer"]
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
        "options": list(options),
        "first_batch": round(times[0][0] - start, 3),
        "peak_mib": round(peak / 1024, 1),
        "epochs": [seconds_of(*pair) for pair in itertools.pairwise(times)],
    }
    seconds = ", ".join(f"{epoch['epoch']:.2f}" for epoch in run["epochs"])
    print(f"{program}, batch size {batch_size}: {seconds} s", *options, flush=True)
    return run


def measure_work(section: str, data_dir: Path) -> list[Run]:
    """Measures the work of the article; the programs that are compared take turns."""
    return [
        {"section": section} | measure(program, data_dir, batch_size, epochs)
        for num_rounds, programs, batch_sizes, epochs in WORK[section]
        for _ in range(num_rounds)
        for batch_size in batch_sizes
        for program in programs
    ]


def measure_gpu(data_dir: Path) -> list[Run]:
    """Measures the work of the article on a GPU; the programs that are compared take turns."""
    return [
        measure(program, data_dir, batch_size, epochs, options)
        for num_rounds, programs, batch_sizes, epochs in GPU_WORK
        for _ in range(num_rounds)
        for batch_size in batch_sizes
        for program, options in programs
    ]


def measure_help() -> list[Run]:
    """Measures the start of the command line."""
    commands = {
        "help": ("-m", "fmnist_lightning", "--help"),
        "import": ("-c", "import lightning.pytorch.cli"),
    }
    return [
        {"section": "help"}
        | {name: time_python(*args, capture_output=True) for name, args in commands.items()}
        for _ in range(7)
    ]


def main() -> None:
    """Measures, saves, and writes tables and chart."""
    parser = create_parser(__doc__)
    parser.add_argument("--data-dir", default="data", type=Path)
    parser.add_argument("sections", nargs="*", help=f"default: all of {', '.join(SECTIONS)}")
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"unknown sections {', '.join(sorted(unknown))}; use {', '.join(SECTIONS)}")
    if not args.table:
        data_dir = args.data_dir.absolute()
        download(data_dir)
        if torch.cuda.is_available():
            save(RESULTS / "gpu" / "speed.json", runs=measure_gpu(data_dir))
            return
        sections = args.sections or SECTIONS
        saved = json.loads(SAVED.read_text())["runs"]
        runs = [run for run in saved if run["section"] not in sections]
        for section in sections:
            runs += measure_help() if section == "help" else measure_work(section, data_dir)
        save(SAVED, runs=runs)
    speed_tables.write_pages()


if __name__ == "__main__":
    main()
