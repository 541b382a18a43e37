"""What is done once in a process so that memory takes less time."""

import ctypes
import functools
import gc
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h


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
