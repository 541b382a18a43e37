"""The TensorBoard log of a run, and what other loggers get of it."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

EVENT_FILE = "events.out.tfevents."


class RunTensorBoardLogger(TensorBoardLogger):
    """A TensorBoard log directly in the folder of a run.

    ``step`` is that of all metrics of an evaluation. ``purge_step`` is where a fit is resumed:
    TensorBoard hides what the log already has of later steps, which are repeated.
    """

    def __init__(
        self, run_dir: Path, step: int | None = None, purge_step: int | None = None
    ) -> None:
        # Absolute, because TensorBoard writes in a thread, and jsonargparse changes the current
        # folder for a moment to save the config.
        run_dir = run_dir.absolute()
        super().__init__(
            run_dir, name="", version="", default_hp_metric=False, purge_step=purge_step
        )
        self.step = step
        if purge_step is not None:
            sort_event_files(run_dir)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics without the number of the epoch, which Lightning adds to all of them."""
        kept = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(kept, step if self.step is None else self.step)


@rank_zero_only
def sort_event_files(run_dir: Path) -> None:
    """Renames the event files of a run where a new one would not be the last of them.

    TensorBoard reads them in the order of their names, which begin with a time in seconds: after a
    clock was set back, or within one second, later steps would come first.
    """
    files = sorted(run_dir.glob(f"{EVENT_FILE}*"))
    if files and files[-1].name >= f"{EVENT_FILE}{int(time.time())}":
        for number, path in enumerate(files):
            path.rename(path.with_name(re.sub(r"\d+", f"{number:010d}", path.name, count=1)))


def find_writers(trainer: Trainer, step: int = 0) -> list[tuple[SummaryWriter, int]]:
    """The TensorBoard writers on rank 0, each with where to write after this number of steps."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    # Lightning logs the curves of an epoch at its last step, counted from 0.
    last = max(step - 1, 0)
    return [
        (each.experiment, last if getattr(each, "step", None) is None else each.step)  # type: ignore[attr-defined]
        for each in loggers
        if isinstance(each, TensorBoardLogger)
    ]


def find_other_loggers(trainer: Trainer) -> list[Logger]:
    """The loggers on rank 0, other than TensorBoard's, that take figures."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [each for each in loggers if isinstance(each, WandbLogger | MLFlowLogger)]


def log_figure(trainer: Trainer, tag: str, figure: Any, step: int) -> None:
    """Writes a matplotlib figure to all loggers that take figures."""
    for writer, writer_step in find_writers(trainer, step):
        writer.add_figure(tag, figure, writer_step)
    for logger in find_other_loggers(trainer):
        if isinstance(logger, WandbLogger):
            logger.log_image(tag, [figure], step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_figure(logger.run_id, figure, f"{tag}.png")
