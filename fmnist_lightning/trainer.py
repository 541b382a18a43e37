"""A ``Trainer`` with everything that the command line gives a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar

from fmnist_lightning.internals.console import EpochBar, can_show_bar
from fmnist_lightning.internals.fast_loop import FitLoop
from fmnist_lightning.internals.non_finite import TerminateOnNonFinite
from fmnist_lightning.internals.threads import set_num_threads
from fmnist_lightning.training import runs
from fmnist_lightning.training.callbacks import EpochSummary, EvaluationSummary, SeedEachEpoch
from fmnist_lightning.training.checkpoint import AtomicCheckpointIO, RunCheckpoint, read_checkpoint


def create_trainer(
    *,
    run_dir: Path | None = None,
    default_root_dir: str | Path = runs.ROOT,
    logger: Any = True,
    callbacks: Callback | Sequence[Callback] | None = None,
    plugins: Any = None,
    num_threads: int | None = None,
    **kwargs: Any,
) -> Trainer:
    """Builds a ``Trainer`` with everything that the command line gives a run.

    That is a run folder with TensorBoard log and atomic checkpoints, ``best.ckpt``, printed losses,
    a stop where the loss is not finite, exact resume, and a suitable number of CPU threads.

    Args:
        run_dir: The folder of the run; by default a new one below ``default_root_dir``. It becomes
            the trainer's ``default_root_dir``.
        default_root_dir: The folder of all runs.
        logger: As in ``Trainer``; by default, a TensorBoard log in the run folder.
        callbacks: Added to those of this function.
        plugins: As in ``Trainer``.
        num_threads: CPU threads of PyTorch; by default, those that other programs leave free.
        **kwargs: Any other argument of ``Trainer``.

    Raises:
        ValueError: If ``best.ckpt`` in the current folder is not from a fit.
    """
    set_num_threads(num_threads)
    dry = bool(kwargs.get("fast_dev_run"))  # writes nothing
    saves = not dry and kwargs.get("enable_checkpointing") is not False
    if saves:
        runs.check_overwrite()
    root = Path(default_root_dir).expanduser()
    if run_dir is None or dry:  # other ranks write nothing, but the checkpoints of rank 0
        run_dir = runs.create_run_dir(root) if is_rank_zero() and not dry else root
    used = [TerminateOnNonFinite(), SeedEachEpoch(), *as_list(callbacks)]
    has_bar = any(isinstance(callback, ProgressBar) for callback in used)
    if kwargs.get("enable_progress_bar") is not False and not has_bar:
        used.append(EpochBar(refresh_rate=10 if can_show_bar() else 0))
    used += [EpochSummary(), EvaluationSummary(None if dry else run_dir)]
    if logger is not False and not dry:
        from fmnist_lightning import tensorboard  # an option, imported only where it is used

        if logger is None or logger is True:
            last = run_dir / runs.CHECKPOINTS / runs.LAST  # of a run that is resumed
            step = read_checkpoint(last)["global_step"] if last.is_file() else 0
            logger = tensorboard.RunTensorBoardLogger(run_dir, purge_step=step)
        used += [tensorboard.TensorBoardSetup(), tensorboard.EvaluationFigures()]
    if saves:
        used.append(RunCheckpoint(run_dir / runs.CHECKPOINTS))
    all_plugins = as_list(plugins)
    if not any(isinstance(plugin, CheckpointIO) for plugin in all_plugins):
        all_plugins.append(AtomicCheckpointIO())
    kwargs = {"num_sanity_val_steps": 0, "enable_model_summary": False, **kwargs}
    kwargs["default_root_dir"] = run_dir
    trainer = Trainer(logger=logger, callbacks=used, plugins=all_plugins, **kwargs)
    trainer.fit_loop = FitLoop(trainer)
    return trainer


def is_rank_zero() -> bool:
    """Whether this process is the first of its run; known before there is a trainer."""
    return getattr(rank_zero_only, "rank", 0) == 0


def as_list(value: Any) -> list[Any]:
    """None, one object, or several, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
