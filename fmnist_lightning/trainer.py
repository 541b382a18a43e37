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
from fmnist_lightning.training.checkpoint import AtomicCheckpointIO, read_checkpoint
from fmnist_lightning.training.run_checkpoint import RunCheckpoint, check_best


def create_trainer(
    *,
    run_dir: Path | None = None,
    default_root_dir: str | Path | None = None,
    logger: Any = True,
    callbacks: Callback | Sequence[Callback] | None = None,
    plugins: Any = None,
    num_threads: int | None = None,
    log_step: int | None = None,
    data_spec: dict[str, Any] | None = None,
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
        log_step: The step of all metrics in the TensorBoard log, for evaluations of a checkpoint.
        data_spec: ``class_path`` and ``init_args`` of the data module, for the checkpoints; by
            default its class and the hyperparameters that it has saved.
        **kwargs: Any other argument of ``Trainer``.

    Raises:
        ValueError: If ``best.ckpt`` in the current folder is not from a fit.
    """
    set_num_threads(num_threads)
    is_dry = bool(kwargs.get("fast_dev_run"))  # writes nothing
    should_save = not is_dry and kwargs.get("enable_checkpointing") is not False
    root = runs.find_root(default_root_dir)
    if should_save:
        check_best(root)
    if run_dir is None or is_dry:  # other ranks write nothing, but the checkpoints of rank 0
        run_dir = runs.create_run_dir(root) if is_rank_zero() and not is_dry else root
    used = [TerminateOnNonFinite(), SeedEachEpoch(), *as_list(callbacks)]
    has_bar = any(isinstance(callback, ProgressBar) for callback in used)
    if kwargs.get("enable_progress_bar") is not False and not has_bar:
        used.append(EpochBar(refresh_rate=10 if can_show_bar() else 0))
    used += [EpochSummary(), EvaluationSummary(None if is_dry else run_dir)]
    if logger is not False and not is_dry:
        from fmnist_lightning import tensorboard  # an option, imported only where it is used

        if logger is None or logger is True:
            last, purge_step = run_dir / runs.CHECKPOINTS / runs.LAST, None
            if log_step is None:  # a fit, which repeats what the log has of later steps
                purge_step = read_checkpoint(last)["global_step"] if last.is_file() else 0
            logger = tensorboard.RunTensorBoardLogger(run_dir, log_step, purge_step)
        used += [tensorboard.TensorBoardSetup(), tensorboard.EvaluationFigures()]
    if should_save:
        used.append(RunCheckpoint(run_dir / runs.CHECKPOINTS, data_spec))
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
