"""What the command line says at the end of a ``fit``."""

import contextlib
import os
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.non_finite import NonFiniteError
from fmnist_lightning.internals.signals import is_dead_rank_error, signal_exit_code
from fmnist_lightning.internals.specs import find_untrusted
from fmnist_lightning.training import runs
from fmnist_lightning.training.checkpoint import SPEC_KEYS, RunCheckpoint, read_checkpoint


@contextlib.contextmanager
def report_errors(trainer: Trainer, first_step: int, new_run_dir: Path | None) -> Iterator[None]:
    """Says how to resume a fit that a signal ends, and keeps the traceback of another error.

    A run that has failed before the step after ``first_step`` leaves no folder.
    """
    try:
        yield
    except BaseException as error:
        checkpoint, step = trainer.checkpoint_callback, trainer.global_step
        speaks = trainer.is_global_zero and isinstance(checkpoint, RunCheckpoint)
        if signal_exit_code() or is_dead_rank_error(error):
            if speaks:
                print_line(_after_interrupt(step, checkpoint))
        elif step <= first_step:
            if new_run_dir:
                shutil.rmtree(new_run_dir, ignore_errors=True)
        elif speaks and not isinstance(error, NonFiniteError):
            print_line(_save_traceback(step, Path(trainer.default_root_dir) / "traceback.txt"))
        raise


def _after_interrupt(step: int, checkpoint: Any) -> str:
    return (
        f"Interrupted at step {step:,}. Resume from step {checkpoint.last_step:,} with: "
        f"python -m fmnist_lightning fit --ckpt_path {os.path.relpath(checkpoint.last_path)}"
    )


def _save_traceback(step: int, path: Path) -> str:
    line = f"Stopped at step {step:,} by an error"
    try:
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:  # maybe the error itself is a full disk
        return line
    return f"{line}, whose traceback is in {os.path.relpath(path)}"


def after_fit(trainer: Trainer, root: Path, own_data: bool) -> str:
    """Where the results are, and the commands to run next; both checkpoints are read to be sure.

    With ``own_data``, a data module of the user, ``test`` needs the config.
    """
    checkpoint, hparams = trainer.checkpoint_callback, trainer.lightning_module.hparams
    assert isinstance(checkpoint, RunCheckpoint)
    read_checkpoint(checkpoint.last_path)
    path, loss = os.path.relpath(checkpoint.last_path), checkpoint.best_model_score
    lines = [f"last checkpoint: {path} (not validated)"]
    if loss is not None:
        read_checkpoint(checkpoint.best_model_path)
        path = os.path.relpath(checkpoint.best_model_path)
        shown = path
        if runs.is_best(Path(path)):  # or it is the user's own, or of a fit beside this one
            shown, path = f"{runs.BEST} -> {path}", str(runs.BEST)
        lines = [f"best checkpoint: {shown} (val loss {loss:.4f})"]
    command = f"python -m fmnist_lightning test --ckpt_path {path}"
    if own_data:
        command += f" --config {os.path.relpath(trainer.default_root_dir)}/config.yaml"
    untrusted = {path for key in SPEC_KEYS for path in find_untrusted(hparams[key])}
    if untrusted:
        command += " --trust " + " ".join(sorted(untrusted))
    lines.append(f"Next:            {command}")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            folder = Path(logger.log_dir).resolve()
            inside = folder.is_relative_to(root.resolve())
            logdir = root if inside else os.path.relpath(logger.root_dir)
            lines.append(f"TensorBoard:     tensorboard --logdir {logdir}")
    return "\n".join(lines)
