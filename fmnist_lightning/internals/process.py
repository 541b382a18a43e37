"""What all trainers of a process share: messages, CPU threads, memory, the search for a GPU."""

import ctypes
import functools
import gc
import os
import sys
import threading

import torch

from fmnist_lightning.internals.console import hide_messages, print_line
from fmnist_lightning.internals.threads import set_num_threads

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h


def prepare_process(num_threads: int | None) -> None:
    """Prepares this process for a training; ``num_threads`` as in ``set_num_threads``."""
    hide_messages()
    set_num_threads(num_threads)
    prepare_memory()
    skip_driver_search()
    if threading.current_thread() is not threading.main_thread():
        print_line("Fits in threads share one random generator: their results can't be repeated")


@functools.cache
def prepare_memory() -> None:
    """Keeps freed memory for the next step, and the garbage collector away from what is imported.

    glibc returns the memory of a step, and the kernel clears it anew, which takes a tenth of the
    training time of a residual network: see mallopt(3). The garbage collector goes through all
    objects of PyTorch every few epochs. The process keeps its largest memory until it ends.
    """
    gc.freeze()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest value
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def skip_driver_search() -> None:
    """Lets each step of Adam know at once that there is no NVIDIA GPU.

    Adam calls ``torch.cuda.is_available``. By an environment variable that Lightning sets, this
    loads NVIDIA's NVML library each time, which takes a tenth of the training time of a small
    network where there is none.
    """
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
