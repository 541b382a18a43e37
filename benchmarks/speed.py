"""Measures this project against plain PyTorch, textbook Lightning and the computation alone.

    python benchmarks/speed.py

The four programs take turns for several rounds, each run in a separate process with a separate
terminal, so that progress bars are drawn. Raw results go to `results/speed.json`, tables to the
pages. Nothing else should run on the machine. Where there is a GPU, it measures that, and writes to
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

import common
import speed_tables
import torch
from common import BENCHMARKS, RESULTS, ROOT
from speed_tables import BATCH_SIZES, LIGHTNING, LOWER_BOUND, NAMES, PACKAGE, PYTORCH, SAVED, Run

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


def run_program(
    program: str, data_dir: Path, batch_size: int, epochs: int, python: str = sys.executable
) -> Run:
    """Runs a program, given with its options, once; ``python`` is for all but this project's."""
    name, *options = program.split()
    if name == PACKAGE:
        command = [sys.executable, "-m", "fmnist_lightning", "fit", f"--data.data_dir={data_dir}"]
        command += ["--config", str(ROOT / "configs" / "article.yaml")]
        command += [f"--data.batch_size={batch_size}", f"--trainer.max_epochs={epochs}"]
        command += [*options, "--trainer.callbacks", "lightning_baseline.EpochTimer"]
    else:
        command = [python, str(BENCHMARKS / f"{name}.py"), f"--data-dir={data_dir}"]
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
    epoch_times = [seconds_of(*pair) for pair in itertools.pairwise(times)]
    seconds = ", ".join(f"{epoch['epoch']:.2f}" for epoch in epoch_times)
    print(f"{program}, batch size {batch_size}: {seconds} s", flush=True)
    return {
        "program": name,
        "batch_size": batch_size,
        "options": options,
        "first_batch": round(times[0][0] - start, 3),
        "peak_mib": round(peak / 1024, 1),
        "epochs": epoch_times,
    }


def take_turns(
    num_rounds: int,
    programs: Iterable[str],
    batch_sizes: Iterable[int],
    epochs: int,
    python: str = sys.executable,
) -> list[Run]:
    """Runs each program with each batch size, for several rounds."""
    data_dir = common.prepare_data()
    return [
        run_program(program, data_dir, batch_size, epochs, python)
        for _ in range(num_rounds)
        for batch_size in batch_sizes
        for program in programs
    ]


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


if __name__ == "__main__":
    common.main(__doc__, measure, speed_tables.texts)
