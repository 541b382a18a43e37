"""Which loop trains: that of this package, where it is known to fit Lightning."""

import lightning
from lightning.pytorch import Trainer

from fmnist_lightning.internals.console import print_line

LIGHTNING_VERSION = "2.6"  # whose loops FastEpochLoop and CorrectedFitLoop extend


def set_loop(trainer: Trainer, fast_loop: bool) -> None:
    """Gives a trainer the corrected loop, or the fast one."""
    if not lightning.__version__.startswith(f"{LIGHTNING_VERSION}."):
        print_line(
            f"Lightning {lightning.__version__} runs its own loop, which takes longer and may "
            f"end without a validation; that of this package extends {LIGHTNING_VERSION} only"
        )
        return
    from fmnist_lightning.internals.fast_loop import FastEpochLoop  # of that version only
    from fmnist_lightning.internals.loop_fixes import CorrectedEpochLoop, CorrectedFitLoop

    epoch_loop_class = FastEpochLoop if fast_loop else CorrectedEpochLoop
    trainer.fit_loop = CorrectedFitLoop(trainer, epoch_loop_class)
