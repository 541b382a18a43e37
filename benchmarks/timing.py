"""Times the epochs of programs, each run in a process with a terminal of its own.

The programs import this module too, for `Stopwatch`, some in an environment without PyTorch.
"""

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import BENCHMARKS, ROOT, empty_folder

PACKAGE = "fmnist_lightning"

Run = dict[str, Any]


class Stopwatch:
    """Takes the times of a training for `run_program`."""

    def __init__(self) -> None:
        self.epochs: list[list[float]] = []

    def start(self) -> None:
        """An epoch starts."""
        self.epochs.append([self._time()])

    def lap(self) -> None:
        """A part of an epoch ends: first its training, then its validation, then the rest."""
        if self.epochs:  # Lightning validates before the first, to check the code
            self.epochs[-1].append(self._time())

    def _time(self) -> float:
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # or the work of the GPU would go on
        return time.time()

    def write(self) -> None:
        """Ends the last epoch, and writes all times to the file that `run_program` reads."""
        self.start()
        Path(os.environ["TIMES_FILE"]).write_text(json.dumps(self.epochs))


def baseline_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of the programs that are run next to this project's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    return parser


def run_in_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> int:
    """Runs a command in a terminal of 100 columns; returns its peak memory in KiB."""
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


def run_program(program: str, batch_size: int, epochs: int, python: str = sys.executable) -> Run:
    """Runs a program, given with its options, once; ``python`` is for all but this project's."""
    name, *options = program.split()
    if name == PACKAGE:
        command = [sys.executable, "-m", PACKAGE, "fit", "--config", "article"]
        command += [f"--data.batch_size={batch_size}", f"--trainer.max_epochs={epochs}"]
        command += ["--trainer.callbacks", "lightning_baseline.EpochTimer"]
    else:
        command = [python, str(BENCHMARKS / f"{name}.py")]
        command += [f"--batch-size={batch_size}", f"--epochs={epochs}"]
    with empty_folder() as folder:
        times_file = folder / "times.json"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, BENCHMARKS, ROOT / "examples"))),
            "TIMES_FILE": str(times_file),
            "TERM": "xterm-256color",
        }
        start = time.time()
        peak = run_in_terminal([*command, *options], folder, environment)
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
    return [
        run_program(program, batch_size, epochs, python)
        for _ in range(num_rounds)
        for batch_size in batch_sizes
        for program in programs
    ]


class Times:
    """The times of saved runs of the work of the article."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)

    def each_round(self, part: str, program: str, batch_size: int = 20) -> list[float]:
        """One value for each round: the median of its epochs but the first, or ``part`` itself."""
        name, *options = program.split()
        expected = {"program": name, "batch_size": batch_size, "options": options}
        runs = [run for run in self.runs if expected.items() <= run.items()]
        return [
            run[part] if part in run else statistics.median(e[part] for e in run["epochs"][1:])
            for run in runs
        ]

    def median(self, part: str, program: str, batch_size: int = 20) -> float:
        """The median over the rounds."""
        return statistics.median(self.each_round(part, program, batch_size))

    def ratios(
        self, part: str, other: str, batch_size: int = 20, program: str = PACKAGE
    ) -> list[float]:
        """This project's time or memory divided by that of another program, for each round."""
        values = (self.each_round(part, name, batch_size) for name in (program, other))
        return [value / other_value for value, other_value in zip(*values, strict=True)]
