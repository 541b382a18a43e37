"""The number of CPU threads: as many as this process may use and other programs leave free.

The threads of an operation wait for each other. Where one has to share its core with another
program, all wait, and a small network trains several times slower than with one thread.
"""

import ctypes
import functools
import math
import os
import sys
from pathlib import Path

import psutil
import torch

from fmnist_lightning.internals.console import print_line

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
WINDOW, MAX_WINDOWS = 0.15, 4  # seconds, in which other programs are watched; times
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h


def set_num_threads(num: int | None = None) -> int:
    """Sets and returns PyTorch's number of CPU threads; None means those that are free.

    Raises:
        ValueError: If it is not at least 1.
    """
    if num is None:
        max_num = num = max_num_threads()
        if max_num > 1 and "OMP_NUM_THREADS" not in os.environ:
            num = min(max_num, num_free_cpus(max_num))
        if num < max_num:
            print_line(
                f"Using {num} of {max_num} CPU threads, because other programs are busy; "
                f"--num_threads {max_num} uses all"
            )
    if num < 1:
        raise ValueError(f"num_threads must be at least 1, not {num}")
    torch.set_num_threads(num)
    return num


@functools.cache
def max_num_threads() -> int:
    """What PyTorch would use, which follows ``OMP_NUM_THREADS``, within affinity and quota."""
    return max(1, int(min(torch.get_num_threads(), len(_affinity()), cpu_quota())))


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))  # macOS and Windows have no affinity to ask for


def cpu_quota() -> float:
    """The CPUs that a container may use (``docker --cpus``), which PyTorch does not ask for.

    See https://docs.kernel.org/admin-guide/cgroup-v2.html.
    """
    try:
        quota, period = CPU_MAX.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # not in a container of Linux, or "max"
        return math.inf


def num_free_cpus(enough: int) -> int:
    """The CPUs of this process that other programs leave free, rounded, at least 1.

    A short burst does not count: the result is the highest of several measurements, which end with
    the first that is at least ``enough``.
    """
    num_free = 1
    for _ in range(MAX_WINDOWS):
        percents = psutil.cpu_percent(interval=WINDOW, percpu=True)
        cpus = [cpu for cpu in _affinity() if cpu < len(percents)]
        num_free = max(num_free, round(sum(1 - percents[cpu] / 100 for cpu in cpus)))
        if num_free >= enough:
            break
    return num_free


def set_malloc_thresholds() -> None:
    """Tells glibc to keep the memory that a step frees for the next step.

    Otherwise it returns most of it, and the kernel clears it anew, which takes a tenth of the
    training time of a residual network. The process keeps its largest memory until it ends. See
    https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return  # not glibc
    if libc.mallopt(M_MMAP_THRESHOLD, 2**25):  # the largest value; it also ends an adaptive rule
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
