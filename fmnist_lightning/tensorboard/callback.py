"""What TensorBoard shows of a run beside the curves that the classifier logs."""

from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fmnist_lightning.data.datamodule import FashionMNISTDataModule
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.tensorboard.grids import make_image_grid

# TensorBoard takes the names as regular expressions; `train/loss_step` must not match.
LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["^train/loss$", "^val/loss$"]],
        "accuracy": ["Multiline", ["^train/acc$", "^val/acc$"]],
    },
    "each class, validation": {
        "precision": ["Multiline", ["^val_precision/"]],
        "recall, the accuracy on its own pictures": ["Multiline", ["^val_recall/"]],
    },
}
SUMMARY_METRICS = ("val/loss", "val/acc", "val/ece", "test/loss", "test/acc", "test/ece")
NUM_IMAGES, COLUMNS = 20, 5


class FixedStepTensorBoardLogger(TensorBoardLogger):
    """A TensorBoard log in the folder of a run itself.

    Args:
        run_dir: The folder of the run.
        step: Where all figures go on the time axis; by default, each at the step of its own.
        start: For a fit, the number of steps done before it. What the log of a resumed run holds of
            later steps, which come again, TensorBoard will not show. It asks for a start in the
            logs before, too.
    """

    def __init__(
        self, run_dir: Path, step: int | None = None, purge_step: int | None = None
    ) -> None:
        # TensorBoard writes in a thread, which must not be led astray where jsonargparse, to save
        # the config, changes the current folder for a moment.
        run_dir = run_dir.absolute()
        super().__init__(
            run_dir, name="", version="", default_hp_metric=False, purge_step=purge_step
        )
        self.step = step

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs figures, without the number of the epoch, which Lightning adds to all of them."""
        kept = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(kept, step if self.step is None else self.step)


def tensorboard_loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    """The TensorBoard logs of a trainer; only the first process has any to write to."""
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


class TensorBoardSetup(Callback):
    """Writes the pictures, charts and texts of a run into its TensorBoard log, once at its start.

    Args:
        config_path: The file with the run's config.
        hyperparameters: What to compare runs by, see :func:`hyperparameters`.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes everything that is known before the first step."""
        if trainer.global_step:
            return
        self.config_path = Path(trainer.default_root_dir) / "config.yaml"
        self.hyperparameters = {"seed": 0}
        for logger in tensorboard_loggers(trainer):
            self._write(logger.experiment, trainer)

    def _write(self, writer: SummaryWriter, trainer: Trainer) -> None:
        writer.add_custom_scalars(LAYOUT)
        if self.config_path.is_file():
            writer.add_text("config", _as_code(self.config_path.read_text()))
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, FashionMNISTDataModule):
            images, labels = data.train_dataset.images, data.train_dataset.labels
            grid = make_image_grid(
                images[:NUM_IMAGES],
                [CLASSES[label] for label in labels[:NUM_IMAGES]],
                COLUMNS,
            )
            writer.add_image("training pictures", grid, dataformats="HW")
        # Only the names of the figures are declared here. TensorBoard takes their values from the
        # curves, so that those of a later `test` appear beside the settings too.
        figures = dict.fromkeys(SUMMARY_METRICS, torch.nan)
        for summary in hparams(self.hyperparameters, figures):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]


def _as_code(text: str) -> str:
    """Markdown that shows a text as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())
