"""The TensorBoard log of a run, and the loggers that take figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from typing_extensions import override


class RunTensorBoardLogger(TensorBoardLogger):
    """A TensorBoard log directly in the folder of a run.

    Args:
        run_dir: The folder of the run.
        step: Where everything is written that is logged; None means at the step of training.
        purge_step: Where a fit is resumed: TensorBoard hides what the log already has of later
            steps, which are repeated.
    """

    def __init__(
        self, run_dir: Path, step: int | None = None, purge_step: int | None = None
    ) -> None:
        # Absolute, because TensorBoard writes in a thread, and jsonargparse changes the current
        # folder for a moment to save the config.
        super().__init__(
            run_dir.absolute(), name="", version="", default_hp_metric=False, purge_step=purge_step
        )
        self.step = step

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics without the number of the epoch, which Lightning adds to all of them."""
        kept = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(kept, fixed_step(self, step))


def fixed_step(logger: Logger, step: int | None) -> int | None:
    """Where a logger writes what it gets at ``step``."""
    fixed: int | None = getattr(logger, "step", None)
    return step if fixed is None else fixed


def find_figure_loggers(trainer: Trainer) -> list[Logger]:
    """The loggers on rank 0 that take figures: TensorBoard, Weights & Biases, MLflow."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    kinds = TensorBoardLogger | WandbLogger | MLFlowLogger
    return [logger for logger in loggers if isinstance(logger, kinds)]


def log_figure(trainer: Trainer, tag: str, figure: Any, step: int) -> None:
    """Writes a matplotlib figure to all loggers that take figures."""
    for logger in find_figure_loggers(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(tag, figure, fixed_step(logger, step))
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [figure], step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_figure(logger.run_id, figure, f"{tag}.png")
