"""Output on the terminal."""

import sys
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm.auto import tqdm
from typing_extensions import override


class EpochBar(TQDMProgressBar):
    """Lightning's progress bar, but epochs count from 1, as in the printed lines."""

    @override
    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}")


def can_show_bar() -> bool:
    """Whether the output goes to a terminal or a notebook; in a file, a bar fills many lines."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


@rank_zero_only
def print_line(text: str) -> None:
    """Prints a line above a progress bar, without breaking the bar; on the first rank only."""
    encoding = sys.stdout.encoding or "utf-8"  # which may lack a character of a file name
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))
