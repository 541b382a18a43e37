"""Ctrl+C, SIGTERM, and processes of a distributed run that died."""

import contextlib
import signal
from collections.abc import Iterator

import torch

_received: list[int] = []


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Turns SIGTERM and Ctrl+C into KeyboardInterrupt, so that half-written files are removed.

    The signal is also kept for ``signal_exit_code``, because a library may replace the
    KeyboardInterrupt with an error of its own.
    """

    def handler(signum: int, frame: object) -> None:
        _received.append(signum)
        raise KeyboardInterrupt

    _received.clear()
    previous = {
        signum: signal.signal(signum, handler)
        for signum in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(signum) != signal.SIG_IGN  # as in the background of a shell
    }
    try:
        yield
    finally:
        for signum, previous_handler in previous.items():
            signal.signal(signum, previous_handler)


def signal_exit_code() -> int | None:
    """130 after Ctrl+C, 143 after SIGTERM, None without a signal."""
    return 128 + _received[0] if _received else None


def is_dead_rank_error(error: BaseException) -> bool:
    """Whether ``error`` is what the other ranks of a distributed run get when one of them dies."""
    nccl = getattr(torch.distributed, "DistBackendError", ())
    return isinstance(error, nccl) or (isinstance(error, RuntimeError) and "gloo" in str(error))
