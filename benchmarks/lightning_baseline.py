"""Times the epochs of `examples/minimal_lightning.py`, with its options."""

from unittest import mock

from lightning.pytorch.callbacks import LambdaCallback
from timing import Stopwatch


class EpochTimer(LambdaCallback):
    """Times the epochs of a ``fit``, of this project too."""

    def __init__(self) -> None:
        stopwatch = Stopwatch()
        super().__init__(
            on_train_epoch_start=lambda *_: stopwatch.start(),
            on_validation_start=lambda *_: stopwatch.lap(),
            on_validation_end=lambda *_: stopwatch.lap(),
            on_train_end=lambda *_: stopwatch.write(),
        )


if __name__ == "__main__":
    import minimal_lightning  # not where this project uses the callback

    with mock.patch.object(
        minimal_lightning.Classifier, "configure_callbacks", return_value=[EpochTimer()]
    ):
        minimal_lightning.main()
