"""Output on the terminal."""

import logging
import sys
import warnings
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm.auto import tqdm
from typing_extensions import override

IGNORED_WARNINGS = (
    ".*does not have many workers",  # the images are in memory: workers only slow it down
    "Checkpoint directory .* exists and is not empty",  # a resumed run
    "The dirpath has changed",  # a run that continues from the checkpoint of another
    "Precision .* is not supported by the model summary",
    ".*smaller than the logging interval",  # a line says that an epoch has few steps
    ".*Corrupt EXIF data",  # is no EXIF
    ".*LeafSpec.* is deprecated",  # Lightning uses an old name of PyTorch
)


def hide_messages() -> None:
    """Hides messages of Lightning and others that nobody can act on."""
    for package in ("lightning.fabric", "lightning.pytorch"):
        if (logger := logging.getLogger(package)).level == logging.INFO:  # Lightning's own choice
            logger.setLevel(logging.WARNING)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


class EpochBar(TQDMProgressBar):
    """Lightning's progress bar, but epochs count from 1, as in the printed lines."""

    @override
    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}")


def can_show_bar() -> bool:
    """Whether the output goes to a terminal; in files and notebooks, a bar fills many lines."""
    return sys.stdout.isatty()


@rank_zero_only
def print_line(text: str) -> None:
    """Prints a line above a progress bar, without breaking the bar; on the first rank only."""
    encoding = sys.stdout.encoding or "utf-8"  # which may lack a character of a file name
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))
