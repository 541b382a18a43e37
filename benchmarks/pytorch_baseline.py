"""Times the epochs of `examples/plain_pytorch.py`, with its options.

It imports PyTorch and torchvision, but neither Lightning nor this project.
"""

from typing import Any
from unittest import mock

import plain_pytorch
from common import Stopwatch


def main() -> None:
    """Runs the example."""
    stopwatch = Stopwatch()
    train_epoch, evaluate = plain_pytorch.train_epoch, plain_pytorch.evaluate

    def timed_train_epoch(*args: Any) -> float:
        stopwatch.start_epoch()
        loss = train_epoch(*args)
        stopwatch.start_validation()
        return loss

    def timed_evaluate(*args: Any) -> tuple[float, int, int]:
        if "validation" in stopwatch.epochs[-1]:  # all epochs are over, and it is the test
            stopwatch.write()
            return evaluate(*args)
        results = evaluate(*args)
        stopwatch.end_validation()
        return results

    timed = {"train_epoch": timed_train_epoch, "evaluate": timed_evaluate}
    with mock.patch.multiple(plain_pytorch, **timed):
        plain_pytorch.main()


if __name__ == "__main__":
    main()
