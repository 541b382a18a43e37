"""Times the epochs of `examples/plain_pytorch.py`, with its options.

It imports PyTorch and torchvision, but neither Lightning nor this project.
"""

from typing import Any
from unittest import mock

import plain_pytorch
from timing import Stopwatch


def main() -> None:
    """Runs the example."""
    stopwatch = Stopwatch()
    train_epoch, evaluate = plain_pytorch.train_epoch, plain_pytorch.evaluate

    def timed_train_epoch(*args: Any) -> float:
        stopwatch.start()
        return train_epoch(*args)

    def timed_evaluate(*args: Any) -> tuple[float, int, int]:
        stopwatch.lap()  # the end of training, or, at the test, of the last epoch
        results = evaluate(*args)
        stopwatch.lap()
        return results

    with mock.patch.multiple(plain_pytorch, train_epoch=timed_train_epoch, evaluate=timed_evaluate):
        plain_pytorch.main()
    stopwatch.write()


if __name__ == "__main__":
    main()
