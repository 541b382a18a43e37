"""What ``fit`` says at its start and at its end."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from fmnist_lightning.cli.settings import Settings
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.specs import find_untrusted
from fmnist_lightning.runs.checkpoint import Checkpoint, read_checkpoint
from fmnist_lightning.runs.run_checkpoint import BEST, RunCheckpoint


def print_start(
    checkpoint: Checkpoint | None, args: Sequence[str], sources: Sequence[Settings], text: str
) -> None:
    """Says what is done with a checkpoint, and which callbacks of configs the run lacks."""
    if checkpoint:
        path, step = f"{checkpoint.path} ({checkpoint.origin})", checkpoint.step
        line = f"A new run from the weights of {path}, step {step:,}"
        if checkpoint.is_last:
            line = f"Resuming {checkpoint.run_dir} from step {step:,}"
        changes = re.sub(r" ?--ckpt_path[ =]\S+", "", " ".join(args)).strip()
        print_line(f"{line} with {changes}" if changes else line)
    classes = re.compile(r"class_path: .*?(\w+)$", re.MULTILINE)
    given = yaml.safe_dump([each.get("trainer") for each in sources])
    for name in dict.fromkeys(classes.findall(given)):
        if name not in classes.findall(text):
            print_line(f"{name} is replaced, with its settings (--trainer.callbacks+= adds one)")


def format_fit_summary(trainer: Trainer, checkpoint: RunCheckpoint, root: Path) -> str:
    """Where the results are, and the commands to run next; both checkpoints are read to be sure."""
    content = read_checkpoint(checkpoint.last_path)
    path, loss = checkpoint.last_path, checkpoint.best_model_score
    lines = [f"last checkpoint: {path} (not validated)"]
    if loss is not None:
        read_checkpoint(checkpoint.best_model_path)
        path = str(Path(path).with_name(BEST.name))
        shown = path
        # Unless another run took the link, or the system has none.
        if BEST.is_file() and BEST.samefile(path):
            shown, path = f"{BEST} -> {path}", str(BEST)
        lines = [f"best checkpoint: {shown} (val loss {loss:.4f})"]
    command = f"python -m fmnist_lightning test --ckpt_path {path}"
    if untrusted := set(find_untrusted([content["data"], content["hyper_parameters"]])):
        command += " --trust " + " ".join(sorted(untrusted))
    lines.append(f"Next:            {command}")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            is_inside = Path(logger.log_dir).resolve().is_relative_to(root.resolve())
            logdir = root if is_inside else logger.root_dir
            lines.append(f"TensorBoard:     tensorboard --logdir {logdir}")
    return "\n".join(lines)
