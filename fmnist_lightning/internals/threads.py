"""The number of CPU threads: as many as this process may use and other programs leave free.

The threads of an operation wait for each other. Where one has to share its core with another
program, all wait, and a small network trains several times slower than with one thread.
"""

import contextlib
import functools
import os
from pathlib import Path

import psutil
import torch

from fmnist_lightning.internals.console import print_line

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def set_num_threads(num: int | None = None) -> int:
    """Sets and returns PyTorch's number of CPU threads, at least 1; None means those free."""
    if num is None:
        max_num = num = max_num_threads()
        if max_num > 1 and "OMP_NUM_THREADS" not in os.environ:
            with contextlib.suppress(OSError, IndexError):  # a container may hide some CPUs
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


@functools.cache  # PyTorch's number changes when it is set
def max_num_threads() -> int:
    """What PyTorch would use, within the quota of a container (``docker --cpus``)."""
    try:  # https://docs.kernel.org/admin-guide/cgroup-v2.html
        quota, period = map(int, CPU_MAX.read_text().split())
    except (OSError, ValueError):  # not in a container of Linux, or "max"
        return torch.get_num_threads()
    return max(1, min(torch.get_num_threads(), quota // period))


def num_free_cpus(enough: int) -> int:
    """The CPUs that other programs leave free, rounded, at least 1."""
    num_free = 1
    for _ in range(4):  # the highest counts, as other programs may have a short burst
        percents = psutil.cpu_percent(interval=0.15, percpu=True)
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(percents))
        num_free = max(num_free, round(sum(1 - percents[cpu] / 100 for cpu in cpus)))
        if num_free >= enough:
            break
    return num_free
