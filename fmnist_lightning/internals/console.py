"""Output on the terminal."""

import sys
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm.auto import tqdm


class EpochBar(TQDMProgressBar):
    """Lightning's bar, which counts epochs from 1 as the printed lines do."""

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Names the epoch."""
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}")


def can_show_bar() -> bool:
    """Whether this is a terminal or a notebook; in a file, a bar would be thousands of lines."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def print_line(text: str) -> None:
    """Prints a line above a progress bar, without breaking the bar."""
    tqdm.write(text)
