"""Times the epochs of `examples/minimal_lightning.py`, with its options."""

from typing import Any
from unittest import mock

from common import Stopwatch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback


class EpochTimer(LambdaCallback):
    """Times the epochs of a ``fit``, of this project too; to be the first of the callbacks."""

    def __init__(self) -> None:
        stopwatch = Stopwatch()
        super().__init__(
            on_train_epoch_start=lambda *_: stopwatch.start(),
            on_validation_start=lambda *_: stopwatch.lap(),
            on_validation_end=lambda *_: stopwatch.lap(),
            on_train_end=lambda *_: stopwatch.write(),
        )


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
