"""Where the four Fashion-MNIST files come from, and the proof that they are the right ones.

Every file is checked by the SHA-256 of its unpacked bytes, whatever its source, because neither the
official mirror (plain http) nor torchvision's cache (which asks only whether a file exists) can be
trusted to hold Fashion-MNIST: both have been seen with plain MNIST under the same names.
"""

import contextlib
import functools
import gzip
import hashlib
import http.client
import io
import logging
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from fmnist_lightning.internals.files import atomic_write

log = logging.getLogger(__name__)


class DataError(RuntimeError):
    """The data set could not be had; the message says what was tried and what to do."""


class DataFile(NamedTuple):
    """One file of the data set, as it is once unpacked."""

    name: str
    size: int
    sha256: str


FILES: tuple[DataFile, ...] = (
    DataFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    DataFile(
        "train-labels-idx1-ubyte",
        60_008,
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    DataFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    DataFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

MIRRORS: tuple[str, ...] = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
TIMEOUT = 10.0  # seconds without a byte before a mirror is given up
DEADLINE = 600.0  # seconds for a whole file, however many bytes trickle in
MAX_DOWNLOAD = 64 * 2**20  # bytes; the largest of the files is 26 MB packed

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
APT_TIMEOUT = 180.0  # seconds for one apt-get command

# Gives one file, packed or not, by its unpacked name, or raises OSError to say why it can't.
Source = Callable[[str], bytes]


def raw_folder(data_dir: str | Path) -> Path:
    """The folder of the IDX files below ``data_dir``, in torchvision's layout."""
    return Path(data_dir).expanduser() / "FashionMNIST" / "raw"


def fetch(data_dir: str | Path) -> Path:
    """Makes sure that the four files are in the data folder, whole and genuine.

    Files that are already there and good are left alone, and then nothing is written, so that a
    read-only folder works. A bad one is renamed to ``<name>.bad-<n>``, never deleted, once its
    replacement is at hand. Several processes may call this on one folder at the same time.

    Args:
        data_dir: The folder that holds, or will hold, ``FashionMNIST/raw``.

    Returns:
        The folder with the IDX files.

    Raises:
        DataError: If the files can't be had from any source, or the folder can't be written.
    """
    raw = raw_folder(data_dir)
    if not _faults(raw):
        return raw
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with _alone(raw):
            faults = _faults(raw)  # another process may have been here while this one waited
            if faults:
                _repair(raw, faults)
    except OSError as error:
        raise DataError(
            f"cannot write the data set into {raw}: {error}. "
            "Name a folder that can be written with --data.data_dir."
        ) from error
    return raw


def _alone(raw: Path) -> contextlib.AbstractContextManager[object]:
    """Waits until no other process is in the folder, and keeps the others out within ``with``."""
    lock = FileLock(raw / ".lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is filling %s; waiting for it", raw)
        return lock.acquire()


def _faults(raw: Path) -> dict[DataFile, str]:
    """What is wrong with each file that is not as it should be."""
    faults = {}
    for file in FILES:
        try:
            content = (raw / file.name).read_bytes()
        except FileNotFoundError:
            faults[file] = "missing"
        except OSError as error:
            faults[file] = f"unreadable ({error.strerror})"
        else:
            if fault := _fault(file, content):
                faults[file] = fault
    return faults


def _fault(file: DataFile, content: bytes) -> str | None:
    if len(content) != file.size:
        return f"{len(content):,} bytes where {file.size:,} belong"
    if hashlib.sha256(content).hexdigest() != file.sha256:
        return "not Fashion-MNIST (its SHA-256 differs)"
    return None


def _repair(raw: Path, faults: dict[DataFile, str]) -> None:
    """Replaces each faulty file from the first source that has a good one."""
    for file, fault in faults.items():
        if fault != "missing":
            log.warning("%s is bad: %s; looking for a good copy", raw / file.name, fault)
    todo, tried = list(faults), []
    with tempfile.TemporaryDirectory() as scratch:
        for label, source in _sources(raw, Path(scratch)):
            for file in list(todo):
                try:
                    content = _unpack(source(file.name), file.size)
                    if wrong := _fault(file, content):
                        raise OSError(f"{file.name}: {wrong}")
                except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
                    tried.append(f"  {label}: {_reason(error)}")
                    break  # one failure is enough: the next source may be near and whole
                _install(raw / file.name, content)
                todo.remove(file)
                log.info("%s: from %s", file.name, label)
            if not todo:
                return
    places = " and ".join(MIRRORS)
    raise DataError(
        f"no source has a good copy of {', '.join(file.name for file in todo)}. Tried:\n"
        + "\n".join(tried)
        + f"\nTo put the files there by hand: they are at {places}, and in the "
        f"Debian and Ubuntu package {DEBIAN_PACKAGE} (under {DEBIAN_FOLDER}). Copy them, packed "
        f"(.gz) or not, into {raw} and run the same command again."
    )


def _reason(error: BaseException) -> str:
    """Why a source failed, without the wrapping of the libraries in between."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        return _reason(error.reason)
    if isinstance(error, OSError) and error.strerror:
        name = f"{Path(error.filename).name}: " if error.filename else ""
        return f"{name}{error.strerror}"
    return str(error) or type(error).__name__


def _sources(raw: Path, scratch: Path) -> Iterator[tuple[str, Source]]:
    """All sources by name, the nearest first; nothing is touched before a source is asked."""
    yield f"packed in {raw}", lambda name: (raw / f"{name}.gz").read_bytes()
    for mirror in MIRRORS:
        yield mirror, functools.partial(_download, mirror)
    yield str(DEBIAN_FOLDER), lambda name: (DEBIAN_FOLDER / f"{name}.gz").read_bytes()
    yield f"package {DEBIAN_PACKAGE} by apt-get", functools.partial(_from_package, scratch)


def _download(mirror: str, name: str) -> bytes:
    until = time.monotonic() + DEADLINE
    with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=TIMEOUT) as response:
        content = bytearray()
        with tqdm(total=response.length, unit="B", unit_scale=True, desc=name, leave=False) as bar:
            while chunk := response.read1(2**16):  # whatever is there; read() would wait for all
                content += chunk
                bar.update(len(chunk))
                if len(content) > MAX_DOWNLOAD:
                    raise OSError(f"{name}.gz: more than {MAX_DOWNLOAD:,} bytes")
                if time.monotonic() > until:
                    raise OSError(f"{name}.gz: not whole after {DEADLINE:.0f} s")
        if response.length:
            raise OSError(f"{name}.gz: the last {response.length:,} bytes did not come")
    return bytes(content)


def _from_package(scratch: Path, name: str) -> bytes:
    """Unpacks the Debian package into a temporary folder, once; needs no root."""
    unpacked = scratch / "unpacked"
    if not unpacked.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise OSError("this system has no apt-get")
        log.info("fetching the package %s (31 MB) with apt-get", DEBIAN_PACKAGE)
        lists, cache = scratch / "lists", scratch / "cache"
        (lists / "partial").mkdir(parents=True)
        (cache / "archives" / "partial").mkdir(parents=True)
        apt = ["apt-get", "-qq", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
        if os.geteuid() == 0:  # as root, apt would hand the download to a user who can't write here
            apt += ["-o", "APT::Sandbox::User=root"]
        _run([*apt, "update"], scratch)
        _run([*apt, "download", DEBIAN_PACKAGE], scratch)
        package = next(scratch.glob(f"{DEBIAN_PACKAGE}_*.deb"), None)
        if package is None:
            raise OSError("apt-get downloaded nothing")
        _run(["dpkg-deb", "-x", str(package), str(unpacked)], scratch)
    return (unpacked / DEBIAN_FOLDER.relative_to("/") / f"{name}.gz").read_bytes()


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=APT_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} gave no answer in {APT_TIMEOUT:.0f} s") from error
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise OSError(f"{command[0]}: {reason}")


def _unpack(content: bytes, size: int) -> bytes:
    """Unpacks gzip, at most one byte more than ``size``, so that a bomb can't fill the memory."""
    if content[:2] != b"\x1f\x8b":
        return content
    with gzip.open(io.BytesIO(content)) as stream:
        return stream.read(size + 1)


def _install(path: Path, content: bytes) -> None:
    """Puts a file in its place once it is written; what stood there is kept under another name."""
    for left in path.parent.glob(f".{path.name}.*"):  # by a process that was killed here
        left.unlink()
    with atomic_write(path) as stream:
        stream.write(content)
        stream.flush()
        if path.exists() or path.is_symlink():
            number = 1
            while (aside := path.with_name(f"{path.name}.bad-{number}")).exists():
                number += 1
            path.rename(aside)
            log.warning("the bad %s is kept as %s", path.name, aside.name)


download = fetch
