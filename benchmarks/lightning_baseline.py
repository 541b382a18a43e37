"""Times the epochs of `examples/minimal_lightning.py`, with its options."""

from typing import Any
from unittest import mock

from common import Stopwatch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override


class EpochTimer(Callback):
    """Times the epochs of a ``fit``, of this project too; to be the first of the callbacks."""

    def __init__(self) -> None:
        self.stopwatch = Stopwatch()

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stopwatch.start_epoch()

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.stopwatch.start_validation()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.stopwatch.end_validation()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stopwatch.write()


def create_trainer(callbacks: list[Callback], **kwargs: Any) -> Trainer:
    """The trainer of the example, timed."""
    return Trainer(callbacks=[EpochTimer(), *callbacks], **kwargs)


def main() -> None:
    """Runs the example."""
    import minimal_lightning  # not where this project uses the callback

    with mock.patch.object(minimal_lightning, "Trainer", create_trainer):
        minimal_lightning.main()


if __name__ == "__main__":
    main()
