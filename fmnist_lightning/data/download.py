"""Downloads the four files of Fashion-MNIST, from several sources, verified by SHA-256.

The official mirror is plain http, and torchvision checks only that a file exists: both have been
seen with plain MNIST under the same names.
"""

import functools
import gzip
import hashlib
import http.client
import logging
import math
import struct
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from fmnist_lightning.data.debian import read_from_package
from fmnist_lightning.internals.files import atomic_write

log = logging.getLogger(__name__)


class DataError(RuntimeError):
    """The dataset is not available; the message says what was tried and what to do."""


class DataFile(NamedTuple):
    """A file of the dataset: name, size in bytes and SHA-256 after decompression."""

    name: str
    size: int
    sha256: str


FILES: tuple[DataFile, ...] = (
    DataFile("train-images-idx3-ubyte", 47_040_016,
             "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    DataFile("train-labels-idx1-ubyte", 60_008,
             "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    DataFile("t10k-images-idx3-ubyte", 7_840_016,
             "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    DataFile("t10k-labels-idx1-ubyte", 10_008,
             "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)  # fmt: skip
MIRRORS: tuple[str, ...] = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
TIMEOUT = 10.0  # seconds without a byte
GZIP_MAGIC = b"\x1f\x8b"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def raw_folder(data_dir: str | Path) -> Path:
    """The folder of the IDX files below ``data_dir``, in torchvision's layout."""
    return Path(data_dir).expanduser() / "FashionMNIST" / "raw"


def download(data_dir: str | Path) -> Path:
    """Verifies the files in ``raw_folder(data_dir)``, and downloads those that are not valid.

    Nothing is written if all files are valid, so the folder may be read-only. Several processes may
    call it at once.

    Returns:
        The folder of the files.

    Raises:
        DataError: If there is a complete file of other data, no source has a valid copy, or the
            folder can't be written to.
    """
    raw = raw_folder(data_dir)
    problems = _verify(raw)
    if not problems:
        return raw
    for file in problems:
        if _is_complete_idx(raw / file.name):
            raise DataError(
                f"{raw / file.name} is not that of Fashion-MNIST: for other data, use --data "
                f"ImageFolderDataModule --data.data_dir {raw}; for Fashion-MNIST, move it away, or "
                "choose another folder with --data.data_dir"
            )
    lock = FileLock(raw / ".lock")
    try:
        raw.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("Waiting for another process to finish the download to %s", raw)
            lock.acquire()
        _download_missing(raw, _verify(raw))  # again: another process may have done it
    except OSError as error:
        remedy = "Choose a writable folder with --data.data_dir."
        raise DataError(f"cannot write the dataset to {raw}: {error}. {remedy}") from error
    finally:
        lock.release()
    return raw


def _verify(raw: Path) -> dict[DataFile, OSError]:
    """The files that are missing or corrupt, and why."""
    problems = {}
    for file in FILES:
        try:
            _check(file, (raw / file.name).read_bytes())
        except OSError as error:
            problems[file] = error
    return problems


def _is_complete_idx(path: Path) -> bool:
    """Whether a file is as long as the dimensions in its head say, so not damaged by accident."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    sizes = struct.unpack(">3I", content[4:16].ljust(12, b"\0"))
    num = {b"\0\0\x08\1": 1, b"\0\0\x08\3": 3}.get(content[:4])  # of labels, of images
    return num is not None and len(content) == 4 + 4 * num + math.prod(sizes[:num])


def _check(file: DataFile, content: bytes) -> None:
    if len(content) != file.size:
        raise OSError(f"{len(content):,} bytes, expected {file.size:,}")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise OSError("not Fashion-MNIST (its SHA-256 differs)")


def _download_missing(raw: Path, problems: dict[DataFile, OSError]) -> None:
    """Gets each file from the first source that has a valid copy."""
    for file, problem in problems.items():
        if not isinstance(problem, FileNotFoundError):
            log.warning("Corrupt file %s: %s; replacing it", raw / file.name, problem)
    missing, tried = list(problems), []
    with tempfile.TemporaryDirectory() as scratch:
        for label, read in _sources(raw, Path(scratch)):
            for file in list(missing):
                try:
                    content = read(f"{file.name}.gz")
                    if content[:2] == GZIP_MAGIC:
                        content = gzip.decompress(content)
                    _check(file, content)
                except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
                    if isinstance(error, urllib.error.HTTPError):
                        error.close()  # its connection
                    tried.append(f"  {label}: {file.name}: {str(error) or type(error).__name__}")
                    break  # the next source may be nearer and complete
                with atomic_write(raw / file.name) as stream:
                    stream.write(content)
                missing.remove(file)
                log.info("%s: from %s", file.name, label)
            if not missing:
                return
    raise DataError(
        f"no source has a valid copy of {', '.join(file.name for file in missing)}. Tried:\n"
        + "\n".join(tried)
        + f"\nTo add the files by hand, get them from {' or '.join(MIRRORS)} or from the Debian "
        f"and Ubuntu package {DEBIAN_PACKAGE} (in {DEBIAN_FOLDER}). Copy them, compressed (.gz) "
        f"or not, to {raw} and run the same command again."
    )


def _sources(raw: Path, scratch: Path) -> Iterator[tuple[str, Callable[[str], bytes]]]:
    """Label and reader of each source, the nearest first; readers raise OSError."""
    yield f"compressed files in {raw}", lambda name: (raw / name).read_bytes()
    for mirror in MIRRORS:
        yield mirror, functools.partial(_read_url, mirror)
    yield str(DEBIAN_FOLDER), lambda name: (DEBIAN_FOLDER / name).read_bytes()
    package = functools.partial(read_from_package, DEBIAN_PACKAGE, DEBIAN_FOLDER, scratch)
    yield f"package {DEBIAN_PACKAGE} with apt-get", package


def _read_url(mirror: str, name: str) -> bytes:
    with (
        urllib.request.urlopen(mirror + name, timeout=TIMEOUT) as response,
        tqdm.wrapattr(response, "read", total=response.length, desc=name, leave=False) as stream,
    ):
        return b"".join(iter(functools.partial(stream.read, 2**16), b""))
