"""What the command line says at the end of a ``fit``."""

import os

from lightning.pytorch import Trainer

from fmnist_lightning.internals.specs import is_allowed
from fmnist_lightning.training import runs
from fmnist_lightning.training.checkpoint import SPEC_KEYS, RunCheckpoint, read_checkpoint


def after_interrupt(trainer: Trainer, root: str) -> str:
    """How to resume a run that was interrupted; ``root`` is the folder of all runs."""
    checkpoint = trainer.checkpoint_callback
    assert isinstance(checkpoint, RunCheckpoint)
    option = "" if root == runs.ROOT else f" --trainer.default_root_dir {root}"
    return (
        f"Interrupted at step {trainer.global_step:,}. Resume from step {checkpoint.last_step:,} "
        f"with: python -m fmnist_lightning fit --ckpt_path last{option}"
    )


def after_fit(trainer: Trainer, root: str, own_data: bool) -> str:
    """Where the results are, and the commands to run next; both checkpoints are read to be sure.

    With ``own_data``, a data module of the user, ``test`` needs the config.
    """
    checkpoint, hparams = trainer.checkpoint_callback, trainer.lightning_module.hparams
    assert isinstance(checkpoint, RunCheckpoint)
    read_checkpoint(checkpoint.last_path)
    lines = []
    if checkpoint.best_model_score is not None:
        read_checkpoint(checkpoint.best_model_path)
        path, loss = os.path.relpath(checkpoint.best_model_path), checkpoint.best_model_score
        lines.append(f"best checkpoint: {runs.BEST} -> {path} (val loss {loss:.4f})")
        command = f"python -m fmnist_lightning test --ckpt_path {runs.BEST}"
        if own_data:
            command += f" --config {os.path.relpath(trainer.default_root_dir)}/config.yaml"
        paths = {hparams[key]["class_path"] for key in SPEC_KEYS if hparams[key]}
        untrusted = sorted(path for path in paths if not is_allowed(path))
        if untrusted:
            command += " --trust " + " ".join(untrusted)
        lines.append(f"Next:            {command}")
    if any(hasattr(logger, "log_dir") for logger in trainer.loggers):
        lines.append(f"TensorBoard:     tensorboard --logdir {root}")
    return "\n".join(lines)
