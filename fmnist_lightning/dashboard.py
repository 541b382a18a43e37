"""What TensorBoard shows of a run beside the curves that the classifier logs."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fmnist_lightning.datamodule import FashionMNISTDataModule
from fmnist_lightning.dataset import CLASSES
from fmnist_lightning.pictures import captioned_grid

LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc"]],
    }
}
FINAL_FIGURES = ("val/loss", "val/acc", "test/loss", "test/acc")
NUM_PICTURES = 40


class Dashboard(Callback):
    """Writes the pictures, charts and texts of a run into its TensorBoard log, once at its start.

    Args:
        config_path: The file with the run's config.
        settings: The settings to compare runs by, as plain values.
    """

    def __init__(self, config_path: Path, settings: dict[str, Any]) -> None:
        self.config_path = config_path
        self.settings = settings

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes everything that is known before the first step."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                self._write(logger.experiment, trainer)

    def _write(self, writer: SummaryWriter, trainer: Trainer) -> None:
        writer.add_custom_scalars(LAYOUT)
        if self.config_path.is_file():
            writer.add_text("config", _as_code(self.config_path.read_text()))
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, FashionMNISTDataModule):
            images, labels = data.train_set.images, data.train_set.labels
            grid = captioned_grid(
                images[:NUM_PICTURES], [CLASSES[label] for label in labels[:NUM_PICTURES]]
            )
            writer.add_image("training pictures", grid, dataformats="HW")
        # Only the names of the figures are declared here. TensorBoard takes their values from the
        # curves, so that those of a later `test` appear beside the settings too.
        figures = dict.fromkeys(FINAL_FIGURES, torch.nan)
        for summary in hparams(self.settings, figures):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]


def _as_code(text: str) -> str:
    """Markdown that shows a text as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())
