"""The TensorBoard log of a run, and figures for any logger that takes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from typing_extensions import override

from fmnist_lightning.runs import runs
from fmnist_lightning.runs.checkpoint import read_checkpoint


class RunTensorBoardLogger(TensorBoardLogger):
    """A TensorBoard log directly in the folder of a run.

    Args:
        run_dir: The folder of the run.
        step: Where everything is written that is logged; None means at the step of training.
        **kwargs: Of ``TensorBoardLogger``, such as the ``purge_step`` of a resumed run.
    """

    def __init__(self, run_dir: Path, step: int | None = None, **kwargs: Any) -> None:
        # Absolute: a script may change the current folder.
        super().__init__(run_dir.absolute(), "", "", default_hp_metric=False, **kwargs)
        self.step = step

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics without the number of the epoch, which Lightning adds to all of them."""
        kept = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(kept, step if self.step is None else self.step)


def prepare_loggers(logger: Any, run_dir: Path) -> Any:
    """Loggers, by default TensorBoard, which go on with the log of a run that is resumed."""
    if isinstance(logger, RunTensorBoardLogger):
        return logger
    last = run_dir / runs.CHECKPOINTS / runs.LAST
    resumed = read_checkpoint(last) if last.is_file() else {}
    if logger is None or logger is True:
        return RunTensorBoardLogger(run_dir, purge_step=int(resumed.get("global_step", 0)))
    for each in logger if isinstance(logger, list | tuple) else [logger]:
        version = resumed.get("loggers", {}).get(type(each).__name__)
        if isinstance(each, MLFlowLogger):
            each._run_id = each._run_id or version
        elif isinstance(each, WandbLogger):
            each._wandb_init["id"] = each._wandb_init["id"] or version
    return logger


def find_step(trainer: Trainer) -> int:
    """The last step, counted from 0 as that of Lightning's curves, or that of a checkpoint."""
    fixed: int | None = getattr(trainer.logger, "step", None)
    return max(trainer.global_step - 1, 0) if fixed is None else fixed


def log_figure(trainer: Trainer, tag: str, figure: Any) -> None:
    """Writes a matplotlib figure to TensorBoard, Weights & Biases and MLflow."""
    step = find_step(trainer)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(tag, figure, step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [figure], step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_figure(logger.run_id, figure, f"{tag}.png")
