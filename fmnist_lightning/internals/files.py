"""Files that are never half written, and files that are read without running code from them."""

import contextlib
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces ``target`` once it is complete."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        try:
            temporary.replace(target)
        except PermissionError:  # on Windows, a virus scanner may have it open for a moment
            time.sleep(1)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def safe_load(path: Path, problem: str) -> Any:
    """Reads a file of tensors and built-in types, to the CPU, without running code from it.

    A ValueError for another file begins with ``problem``, such as ``holds no weights``.
    """
    try:
        if zipfile.is_zipfile(path):  # torch.load does not verify checksums
            with zipfile.ZipFile(path) as archive:
                if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
                    raise ValueError("it is compressed, and may be a bomb")
                if (name := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of {name} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a reader may raise anything over a file of another kind
        raise ValueError(
            f"{path} {problem} that can be read safely: it is damaged, or holds more than "
            "tensors and built-in types"
        ) from error
