"""Worker processes of data loaders."""

import multiprocessing
import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # of Linux; 64 MiB in a container of Docker


def worker_start_method(num_workers: int) -> str | None:
    """How a loader starts its workers: None for the default, and without workers.

    From Python 3.14 on, Linux has a fork server by default, whose processes outlive a killed
    command: workers are forked, as before.
    """
    server = num_workers and multiprocessing.get_start_method() == "forkserver"
    return "fork" if server else None


def check_shared_memory(num_workers: int, batch_bytes: int) -> None:
    """Raises ValueError where the batches of workers would not fit: they would hang."""
    needed = 2 * num_workers * batch_bytes  # two batches per worker wait
    if SHARED_MEMORY.is_dir() and needed > (free := shutil.disk_usage(SHARED_MEMORY).free):
        raise ValueError(
            f"{num_workers} workers need {needed >> 20:,} MiB in {SHARED_MEMORY}, which has "
            f"{free >> 20:,} MiB free: set --data.num_workers 0, or in Docker --shm-size"
        )
