"""Files that are whole at every moment, also where writing them fails or the process is killed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """A file to write beside ``target``; it takes its place when it is whole, and only then.

    Args:
        target: What is replaced, if it is there.

    Yields:
        The stream to write to.

    Raises:
        OSError: If it can't be written; ``target`` is as it was.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
