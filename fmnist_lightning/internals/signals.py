"""Ctrl+C, SIGTERM, and ranks that died."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import torch


class SigtermInterrupt(KeyboardInterrupt):
    """SIGTERM arrived. It is handled like Ctrl+C."""


@contextlib.contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Turns SIGTERM into an exception, so that half-written files are cleaned up."""

    def handler(signum: int, frame: object) -> None:
        raise SigtermInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may install signal handlers
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def signal_exit_code(error: BaseException) -> int | None:
    """130 for a run that Ctrl+C ended, 143 for SIGTERM, None without a signal."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SigtermInterrupt):
            return 128 + signal.SIGTERM
        if isinstance(cause, KeyboardInterrupt):
            return 128 + signal.SIGINT
        cause = cause.__context__
    return None


def is_dead_rank_error(error: BaseException) -> bool:
    """Whether ``error`` is what the other ranks of a distributed run get when one of them dies."""
    nccl = getattr(torch.distributed, "DistBackendError", ())
    return isinstance(error, nccl) or (isinstance(error, RuntimeError) and "gloo" in str(error))
