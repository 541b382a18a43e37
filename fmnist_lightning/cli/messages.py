"""What ``fit`` says at its start and at its end."""

import argparse
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from fmnist_lightning.cli.settings import KNOWN_CLASSES
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.non_finite import NonFiniteError
from fmnist_lightning.internals.signals import is_dead_rank_error, signal_exit_code
from fmnist_lightning.internals.specs import find_untrusted
from fmnist_lightning.runs.checkpoint import Checkpoint, read_checkpoint
from fmnist_lightning.runs.run_checkpoint import BEST, RunCheckpoint, is_best


def format_start(checkpoint: Checkpoint, changes: Sequence[str]) -> str:
    """What is done with a checkpoint, and the configs and options that change its settings."""
    text = f"A new run from the weights of {checkpoint.path}, step {checkpoint.step:,}"
    if checkpoint.is_last and checkpoint.run_dir:
        text = f"Resuming {os.path.relpath(checkpoint.run_dir)} from step {checkpoint.step:,}"
    return f"{text} with {' '.join(changes)}" if changes else text


def format_early(early: argparse.Namespace) -> list[str]:
    """The configs and classes of a command line, as options."""
    given = [("config", name) for name in early.config]
    given += [(option, getattr(early, option, None)) for option in KNOWN_CLASSES]
    return [f"--{option} {value}" for option, value in given if value is not None]


def can_resume(trainer: Trainer | None) -> bool:
    """Whether a run has a ``last.ckpt``, which it gets before its first step."""
    checkpoint = trainer and trainer.checkpoint_callback
    return isinstance(checkpoint, RunCheckpoint) and Path(checkpoint.last_path).exists()


def explain_end(error: BaseException, trainer: Trainer) -> None:
    """Says how to resume a fit that a signal ends, and keeps the traceback of another error."""
    checkpoint, step = trainer.checkpoint_callback, trainer.global_step
    if not trainer.is_global_zero or not isinstance(checkpoint, RunCheckpoint):
        return
    if signal_exit_code() or is_dead_rank_error(error):
        last_step = read_checkpoint(checkpoint.last_path)["global_step"]
        print_line(
            f"Interrupted at step {step:,}. Resume from step {last_step:,} with: "
            f"python -m fmnist_lightning fit --ckpt_path {os.path.relpath(checkpoint.last_path)}"
        )
    elif not isinstance(error, NonFiniteError):
        path = Path(trainer.default_root_dir) / "traceback.txt"
        line = f"Stopped at step {step:,} by an error"
        try:
            path.write_text(traceback.format_exc(), encoding="utf-8")
            line += f", whose traceback is in {os.path.relpath(path)}"
        except OSError:  # maybe the error itself is a full disk
            pass
        print_line(line)


def format_fit_summary(trainer: Trainer, root: Path) -> str:
    """Where the results are, and the commands to run next; both checkpoints are read to be sure."""
    checkpoint: Any = trainer.checkpoint_callback
    content = read_checkpoint(checkpoint.last_path)
    path, loss = os.path.relpath(checkpoint.last_path), checkpoint.best_model_score
    lines = [f"last checkpoint: {path} (not validated)"]
    if loss is not None:
        read_checkpoint(checkpoint.best_model_path)
        path = os.path.relpath(checkpoint.best_model_path)
        shown = path
        if is_best(Path(path)):  # or another run took the link
            shown, path = f"{BEST} -> {path}", str(BEST)
        lines = [f"best checkpoint: {shown} (val loss {loss:.4f})"]
    command = f"python -m fmnist_lightning test --ckpt_path {path}"
    if content["data"] is None:
        command += " --data my_module.MyDataModule"
    if untrusted := set(find_untrusted([content["data"], content["hyper_parameters"]])):
        command += " --trust " + " ".join(sorted(untrusted))
    lines.append(f"Next:            {command}")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            folder = Path(logger.log_dir).resolve()
            is_inside = folder.is_relative_to(root.resolve())
            logdir = root if is_inside else os.path.relpath(logger.root_dir)
            lines.append(f"TensorBoard:     tensorboard --logdir {logdir}")
    return "\n".join(lines)
