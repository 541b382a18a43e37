"""Commands in separate processes, with faults injected."""

import functools
import multiprocessing
import os
import pkgutil
import resource
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

from fmnist_lightning.data import download as sources
from fmnist_lightning.reports import EvaluationFigures, TensorBoardSetup

CONTEXT = multiprocessing.get_context("forkserver")
# Imported once, in a process without threads that is forked for each command.
CONTEXT.set_forkserver_preload(["fmnist_lightning.__main__", "tensorboard.backend", "processes"])


def limit_file_size(size=4096):
    """Makes writes beyond a file size fail, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class Fault(NamedTuple):
    """A signal or an action just before a call of a function, once."""

    function: str  # its path, such as ``os.fsync``
    when: Callable[..., bool] | None = None  # which call, by its arguments; None is the first
    signal: int = signal.SIGKILL  # sent to the own process; 0 is none
    action: Callable[[], None] | None = None  # called after the signal

    def inject(self):
        """Replaces the function."""
        path, _, name = self.function.rpartition(".")
        owner = pkgutil.resolve_name(path)
        original = getattr(owner, name)

        @functools.wraps(original)
        def faulty(*args, **kwargs):
            if self.when is None or self.when(*args, **kwargs):
                setattr(owner, name, original)
                os.kill(os.getpid(), self.signal)
                if self.action is not None:
                    self.action()
            return original(*args, **kwargs)

        setattr(owner, name, faulty)


def at_step(step, function="training_step", **kwargs):
    """A fault in a step of the classifier, after this number of optimizer steps."""
    path = f"fmnist_lightning.training.module.FashionClassifier.{function}"
    return Fault(path, functools.partial(_is_at_step, step), **kwargs)


def _is_at_step(step, module, *args):
    return module.global_step == step


def before_replacing(name, step):
    """A kill when the checkpoint of a step is complete, but does not have its name yet."""
    return Fault("pathlib.Path.replace", functools.partial(_is_new_checkpoint, name, step))


def _is_new_checkpoint(name, step, temporary, target):
    is_named = target.name == name and not temporary.is_symlink()
    return is_named and torch.load(temporary)["global_step"] == step


class Process(NamedTuple):
    """A command that was started."""

    process: ForkServerProcess
    output: Path  # with its stdout and stderr

    def wait(self, seconds=120):
        """Waits for the exit code; that of a signal is negative."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"no end after {seconds} s: {self.output.read_text()}")
        return self.process.exitcode

    def wait_for(self, text, seconds=60):
        """Waits until the output contains a text."""
        until = time.monotonic() + seconds
        while text not in (self.output.read_text() if self.output.exists() else ""):
            if time.monotonic() > until or self.process.exitcode is not None:
                raise TimeoutError(f"no {text!r} in {self.output.read_text()}")
            time.sleep(0.02)


def wait_for_next_second():
    """Waits before a run is resumed: TensorBoard orders logs by the second in their names."""
    time.sleep(1 - time.time() % 1)


def start(
    *args,
    fault=None,
    first=None,  # called before the command
    environment=None,
    draws=False,  # figures, which take longer than a tiny training
):
    """Starts ``python -m fmnist_lightning`` with these arguments in the current folder."""
    output = Path.cwd() / f"output-{time.monotonic_ns()}.txt"
    process = CONTEXT.Process(
        target=_run,
        args=(args, Path.cwd(), sources.FILES, output, fault, first, environment or {}, draws),
    )
    process.start()
    return Process(process, output)


def _run(args, folder, files, output, fault, first, environment, draws):
    """The main function of the process."""
    os.chdir(folder)
    # As in a command of its own: fork servers of workers would outlive a killed command.
    multiprocessing.set_start_method("fork", force=True)
    os.environ |= environment
    if "RANK" in environment:
        # Lightning read it when it was imported, before the fork.
        rank_zero_only.rank = int(environment["RANK"])
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # fork servers ignore it
    sources.FILES = files
    sources.MIRRORS = ()
    sources.DEBIAN_FOLDER = Path("/nowhere")
    sources.APT_SCRIPT = "exit 1"
    if not draws:
        EvaluationFigures.log_figures = lambda *args: None
        TensorBoardSetup.on_train_start = lambda *args: None
    if first is not None:
        first()
    if fault is not None:
        fault.inject()
    from fmnist_lightning.__main__ import main

    sys.exit(main(list(args)))
