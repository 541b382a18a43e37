"""Ctrl+C, SIGTERM, and ranks that died."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import torch

_received: list[int] = []


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Turns SIGTERM and Ctrl+C into KeyboardInterrupt, so that half-written files are cleaned up.

    It also notes them, because libraries may raise another error in place of that one.
    """

    def handler(signum: int, frame: object) -> None:
        _received.append(signum)
        raise KeyboardInterrupt

    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may install signal handlers
        return
    handled = [
        each
        for each in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(each) != signal.SIG_IGN  # as in the background of a shell
    ]
    before = {each: signal.signal(each, handler) for each in handled}
    try:
        yield
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)


def signal_exit_code() -> int | None:
    """130 after Ctrl+C, 143 after SIGTERM, None without a signal."""
    return 128 + _received[0] if _received else None


def is_dead_rank_error(error: BaseException) -> bool:
    """Whether ``error`` is what the other ranks of a distributed run get when one of them dies."""
    nccl = getattr(torch.distributed, "DistBackendError", ())
    return isinstance(error, nccl) or (isinstance(error, RuntimeError) and "gloo" in str(error))
