"""A ``Trainer`` with everything that the command line gives a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar

from fmnist_lightning.internals.console import EpochBar, can_show_bar
from fmnist_lightning.internals.loops import set_loop
from fmnist_lightning.internals.non_finite import TerminateOnNonFinite
from fmnist_lightning.internals.process import prepare_process
from fmnist_lightning.internals.step import ReplaceStep
from fmnist_lightning.runs import runs
from fmnist_lightning.runs.checkpoint import AtomicCheckpointIO
from fmnist_lightning.runs.run_checkpoint import RunCheckpoint, check_best
from fmnist_lightning.training.callbacks import EpochSummary, SeedEachEpoch
from fmnist_lightning.training.outputs import EvaluationSummary

DEFAULTS = {  # of arguments of Trainer
    "num_sanity_val_steps": 0,  # the first validation comes within seconds
    "enable_model_summary": False,  # the line before the first epoch says enough
}


def create_trainer(
    *,
    run_dir: Path | None = None,
    default_root_dir: str | Path | None = None,
    logger: Any = True,
    callbacks: Callback | Sequence[Callback] | None = None,
    num_threads: int | None = None,
    compile: bool = False,
    capture: bool = True,
    fast_loop: bool = True,
    **kwargs: Any,
) -> Trainer:
    """Builds a ``Trainer`` with everything that the command line gives a run.

    That is a run folder with TensorBoard log and atomic checkpoints, ``best.ckpt``, printed losses,
    a stop where the loss is not finite, exact resume, and a suitable number of CPU threads.

    Args:
        run_dir: The folder of the run, the trainer's ``default_root_dir``; by default a new one.
        default_root_dir: The folder of all runs.
        logger: As in ``Trainer``; by default, a TensorBoard log in the run folder.
        callbacks: Added to those of this function.
        num_threads: CPU threads; by default, those that other programs leave free.
        compile: Whether to train with ``torch.compile``: steps of small networks take a fifth less.
        capture: Whether a single CUDA GPU replays steps as a CUDA graph, in a fraction of the time.
        fast_loop: Whether to leave out Lightning's hooks that do nothing. Results are the same.
        **kwargs: Any other argument of ``Trainer``.

    Raises:
        ValueError: If ``best.ckpt`` in the current folder is not from a fit.
    """
    prepare_process(num_threads)
    is_dry = bool(kwargs.get("fast_dev_run"))  # writes nothing
    should_save = not is_dry and kwargs.get("enable_checkpointing") is not False
    root = runs.find_root(default_root_dir)
    if should_save:
        check_best(root)
    if run_dir is None:  # a dry run and other ranks write nothing
        run_dir = root if is_dry or not is_rank_zero() else runs.create_run_dir(root)
    used = [TerminateOnNonFinite(), SeedEachEpoch(), *as_list(callbacks)]
    used.append(ReplaceStep(compile, capture))
    has_bar = any(isinstance(callback, ProgressBar) for callback in used)
    if kwargs.get("enable_progress_bar") is not False and not has_bar:
        used.append(EpochBar(refresh_rate=10 if can_show_bar() else 0))
    used += [EpochSummary(), EvaluationSummary(None if is_dry else run_dir)]
    if logger is not False and not is_dry:
        from fmnist_lightning import reports  # an option, imported only where it is used

        logger = reports.prepare_loggers(logger, run_dir)
        used += [reports.TensorBoardSetup(), reports.EvaluationFigures()]
    used += [RunCheckpoint(run_dir / runs.CHECKPOINTS)] if should_save else []
    plugins = as_list(kwargs.get("plugins"))
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    ours = {"default_root_dir": run_dir, "logger": logger, "callbacks": used, "plugins": plugins}
    trainer = Trainer(**(DEFAULTS | kwargs | ours))
    set_loop(trainer, fast_loop)
    return trainer


def is_rank_zero() -> bool:
    """Whether this process is the first of its run; known before there is a trainer."""
    return getattr(rank_zero_only, "rank", 0) == 0


def as_list(value: Any) -> list[Any]:
    """None, one object, or several, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
