"""Downloads the four files of Fashion-MNIST, from several sources, verified by SHA-256.

The official mirror is plain http, and torchvision checks only that a file exists: both have been
seen with plain MNIST under the same names.
"""

import contextlib
import functools
import gzip
import hashlib
import http.client
import logging
import subprocess
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm

from fmnist_lightning.internals.files import atomic_write

log = logging.getLogger(__name__)


class DataError(RuntimeError):
    """The dataset is not available; the message says what was tried and what to do."""


FILES = {  # and their SHA-256 after decompression
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
MIRRORS: tuple[str, ...] = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
TIMEOUT = 10.0  # seconds without a byte
ERRORS = (OSError, EOFError, zlib.error, http.client.HTTPException, subprocess.TimeoutExpired)
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# Downloads the Debian package to the current folder: needs no root, and installs nothing.
APT_SCRIPT = """
mkdir -p lists/partial cache/archives/partial
apt="apt-get -qq -o Dir::State::Lists=$PWD/lists -o Dir::Cache=$PWD/cache"
apt="$apt -o APT::Sandbox::User=root"  # as root, apt's own user can't write to the folder
$apt update
$apt download dataset-fashion-mnist
dpkg-deb -x dataset-fashion-mnist_*.deb root
"""


def raw_folder(data_dir: str | Path) -> Path:
    """The folder of the IDX files below ``data_dir``, in torchvision's layout."""
    return Path(data_dir).expanduser() / "FashionMNIST" / "raw"


def download(data_dir: str | Path) -> Path:
    """Verifies the files in ``raw_folder(data_dir)``, and downloads those that are missing.

    Nothing is written if all files are there, so the folder may be read-only. Several processes may
    call it at once.

    Returns:
        The folder of the files.

    Raises:
        DataError: If a file has other content, no source has a valid copy, or the folder holds
            other images, or can't be read or written to.
    """
    raw = raw_folder(data_dir)
    try:
        if _find_missing(raw):
            _refuse_other_images(Path(data_dir).expanduser())
            raw.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(OSError):  # the lock only saves downloading twice
                    stack.enter_context(FileLock(raw / ".lock", 600, fallback_to_soft=False))
                _download(raw, _find_missing(raw))  # again: another process may have done it
    except OSError as error:
        remedy = "choose another folder with --data.data_dir"
        raise DataError(f"cannot read or write the dataset in {raw}: {error}; {remedy}") from error
    return raw


def _refuse_other_images(folder: Path) -> None:
    """Raises DataError for a folder of own images, which Fashion-MNIST should not be added to."""
    patterns = ("*/*.jp*g", "*/*.JP*G", "*/*.png", "[Tt]rain*/*/*")
    classes = {str(path.parent) for pattern in patterns for path in folder.glob(pattern)}
    if len(classes) > 1 or list(folder.glob("*-ubyte")):
        raise DataError(
            f"{folder} holds other images {sorted(classes)[:2]}: train on them with --config "
            "own-images or --data ImageFolderDataModule, or choose another folder for "
            "Fashion-MNIST with --data.data_dir"
        )


def _find_missing(raw: Path) -> list[str]:
    """The files that are not there; DataError for one with other content."""
    missing = []
    for name in FILES:
        try:
            content = (raw / name).read_bytes()
        except FileNotFoundError:
            missing.append(name)
            continue
        if not _is_valid(name, content):
            raise DataError(
                f"{raw / name} is not that of Fashion-MNIST: remove it if it is damaged; for other "
                f"data, use --data ImageFolderDataModule --data.data_dir {raw}, or choose another "
                "folder with --data.data_dir"
            )
    return missing


def _is_valid(name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == FILES[name]


def _download(raw: Path, missing: list[str]) -> None:
    """Gets each file from the first source that has a valid copy."""
    tried = []
    with tempfile.TemporaryDirectory() as scratch:
        sources: dict[str, Callable[[str], bytes]] = {
            f"compressed files in {raw}": lambda name: (raw / name).read_bytes(),
            **{mirror: functools.partial(_read_url, mirror) for mirror in MIRRORS},
            str(DEBIAN_FOLDER): lambda name: (DEBIAN_FOLDER / name).read_bytes(),
            "apt-get download": functools.partial(_read_package, Path(scratch)),
        }
        for source, read in sources.items():
            for name in list(missing):
                try:
                    content = gzip.decompress(read(f"{name}.gz"))
                    if not _is_valid(name, content):
                        raise OSError("not Fashion-MNIST (its SHA-256 differs)")
                except ERRORS as error:
                    if isinstance(error, urllib.error.HTTPError):
                        error.close()  # its connection
                    tried.append(f"  {source}: {name}: {error}")
                    break  # the next source may be nearer and complete
                with atomic_write(raw / name) as stream:
                    stream.write(content)
                missing.remove(name)
                log.info("%s: from %s", name, source)
    if missing:
        raise DataError(
            f"no source has a valid copy of {', '.join(missing)}. Tried:\n"
            + "\n".join(tried)
            + f"\nTo add the files by hand, get them from {' or '.join(MIRRORS)} and copy them, "
            f"compressed (.gz) or not, to {raw}."
        )


def _read_url(mirror: str, name: str) -> bytes:
    with (
        urllib.request.urlopen(mirror + name, timeout=TIMEOUT) as response,
        tqdm.wrapattr(response, "read", total=response.length, desc=name, leave=False) as stream,
    ):
        return b"".join(iter(functools.partial(stream.read, 2**16), b""))


def _read_package(scratch: Path, name: str) -> bytes:
    root = scratch / "root"
    if not root.exists():
        done = subprocess.run(
            ["sh", "-ec", APT_SCRIPT], cwd=scratch, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise OSError(done.stderr.strip().rpartition("\n")[2])
    return (root / DEBIAN_FOLDER.relative_to("/") / name).read_bytes()
