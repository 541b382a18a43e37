"""The number of CPU threads: as many as this process may use and other programs leave free.

The threads of an operation wait for each other. Where one has to share its core with another
program, all wait, and a small network trains several times slower than with one thread.
"""

import ctypes
import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fmnist_lightning.internals.console import print_line

CGROUPS = Path("/sys/fs/cgroup")
WINDOW, MAX_WINDOWS = 0.15, 4  # seconds, in which other programs are watched; times
MIN_SECONDS = 2.0  # of an epoch, to judge it
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h


def set_num_threads(num: int | None = None) -> int:
    """Sets and returns PyTorch's number of CPU threads; None means those that are free.

    Raises:
        ValueError: If it is not at least 1.
    """
    if num is None:
        allowed = num = max_num_threads()
        if allowed > 1 and "OMP_NUM_THREADS" not in os.environ:
            num = min(allowed, num_free_cpus(allowed))
        if num < allowed:
            print_line(
                f"Using {num} of {allowed} CPU threads, because other programs are busy; "
                f"--num_threads {allowed} uses all"
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
    """The CPUs that the control groups of this process may use, such as a container's ``--cpus``.

    See https://docs.kernel.org/admin-guide/cgroup-v2.html and, for version 1, sched-bwc.html.
    """
    quotas = [float("inf")]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return quotas[0]
    for line in lines:
        _, controllers, name = line.split(":", 2)
        root = CGROUPS / controllers  # version 2 has no controllers here
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = root / name.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                quotas += _read_quota(folder)
    return min(quotas)


def _read_quota(folder: Path) -> list[float]:
    """The quota of one control group in CPUs, if it has one."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            return [int(quota) / int(period)] if int(quota) > 0 else []
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return []


def num_free_cpus(enough: int) -> int:
    """The CPUs of this process that other programs leave free, rounded, at least 1.

    A short burst does not count: the highest of several measurements is taken, and the first
    that finds ``enough``. Outside of Linux, all count as free.
    """
    found = 1
    for _ in range(MAX_WINDOWS):
        before = _cpu_times()
        time.sleep(WINDOW)
        after = _cpu_times()
        busy = sum(
            (after[cpu][0] - before[cpu][0]) / max(1, after[cpu][1] - before[cpu][1])
            for cpu in before.keys() & after
        )
        found = max(found, int(len(_affinity()) - busy + 0.5))
        if found >= enough:
            break
    return found


def _cpu_times() -> dict[int, tuple[int, int]]:
    """Busy and total ticks of each CPU of this process since the machine started."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    times, own = {}, _affinity()
    for line in lines:
        name, *values = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in own:
            ticks = [int(value) for value in values[:8]]  # what follows counts twice
            idle = ticks[3] + ticks[4]  # idle, and waiting for input and output
            times[int(name[3:])] = sum(ticks) - idle, sum(ticks)
    return times


class StarvationWarning(Callback):
    """Says once if other programs keep the threads of a run waiting for each other.

    Then the threads get less CPU time than the epoch lasted, and are often interrupted.
    """

    warned = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count."""
        self.start = _usage()

    on_train_start = on_train_epoch_start  # a fit may begin inside an epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints a line, with the remedy."""
        num = torch.get_num_threads()
        seconds, cpu_seconds, interrupts = (
            end - start for start, end in zip(self.start, _usage(), strict=True)
        )
        on_cpu: Any = trainer.strategy.root_device.type == "cpu"
        if self.warned or num == 1 or not on_cpu or seconds < MIN_SECONDS:
            return
        if cpu_seconds < 0.75 * num * seconds and interrupts > 50 * num * seconds:
            self.warned = True
            print_line(
                f"Other processes are busy, and the {num} threads of this run wait for each other. "
                f"It would be faster with --num_threads {num // 2}; --ckpt_path last resumes it."
            )


def _usage() -> tuple[float, float, float]:
    """Seconds on the clock, seconds of CPU time, and involuntary context switches."""
    try:
        import resource  # not on Windows
    except ImportError:
        return time.monotonic(), float("inf"), 0
    return time.monotonic(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


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
