"""Downloads in other processes: concurrent, killed, without permissions, on a full disk."""

import fcntl
import functools
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from conftest import as_data_files
from processes import CONTEXT, Fault, drop_privileges, limit_file_size
from servers import Server

from fmnist_lightning.data import download as module
from fmnist_lightning.data.download import DataError, download, raw_folder

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


def assert_valid(raw: Path, files: dict[str, bytes]) -> None:
    assert {name: (raw / name).read_bytes() for name in files} == files


def test_waiting_for_another_process_is_logged(
    packed: Path,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    raw_folder("data").mkdir(parents=True)
    lock = (raw_folder("data") / ".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # as another process would
    threading.Timer(0.3, lock.close).start()
    with caplog.at_level(logging.INFO):
        assert_valid(download("data"), tiny_files)
    assert "Waiting for another process to finish the download to data/" in caplog.text


def _download_in_process(
    folder: Path,
    files: dict[str, bytes],
    source: str | Path,
    setup: Callable[[], None] | None = None,
) -> None:
    """Downloads to ``data`` in ``folder``, from a mirror or a folder."""
    os.chdir(folder)
    module.FILES = as_data_files(files)
    module.MIRRORS = (source,) if isinstance(source, str) else ()
    module.DEBIAN_FOLDER = source if isinstance(source, Path) else Path("/nowhere")
    module.DEBIAN_PACKAGE = "no-such-package"
    os.environ["PATH"] = ""
    if setup is not None:
        setup()
    try:
        download("data")
    except DataError as error:
        Path("error.txt").write_text(str(error))
        sys.exit(1)


def start_download(*args: Any, folder: Path) -> ForkServerProcess:
    """Starts a process that downloads, see above."""
    process = CONTEXT.Process(target=_download_in_process, args=(folder, *args))
    process.start()
    return process


@pytest.mark.fault("concurrent_download")
def test_sixteen_processes_download_once(
    packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    slow = Server(packed, delay=0.2)
    processes = [start_download(tiny_files, slow.url, folder=tmp_path) for _ in range(16)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 16
    assert_valid(raw_folder("data"), tiny_files)
    assert len(slow.requests) == 4  # by the first; the others waited
    slow.server.shutdown()
    slow.server.server_close()


def is_named(name: str, temporary: Path, target: Path) -> bool:
    """Whether ``Path.replace`` gives a complete file this name."""
    return target.name == name


@pytest.mark.fault("concurrent_download")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("gzip.decompress"), marks=pytest.mark.slow, id="at the first file"),
        pytest.param(
            Fault("pathlib.Path.replace", functools.partial(is_named, IMAGES)),
            marks=pytest.mark.slow,
            id="before there is a file",
        ),
        pytest.param(
            Fault("pathlib.Path.replace", functools.partial(is_named, LABELS)),
            id="between two files",
        ),
    ],
)
def test_other_processes_finish_after_a_sigkill(
    fault: Fault, packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    dying = [start_download(tiny_files, packed, fault.inject, folder=tmp_path) for _ in range(4)]
    dying[0].join()
    healthy = [start_download(tiny_files, packed, folder=tmp_path) for _ in range(4)]
    for process in (*dying, *healthy):
        process.join()
    assert [process.exitcode for process in healthy] == [0] * 4
    assert {process.exitcode for process in dying} <= {0, -signal.SIGKILL}
    assert dying[0].exitcode == -signal.SIGKILL
    assert_valid(raw_folder("data"), tiny_files)


@pytest.mark.fault("disk")
def test_full_disk_leaves_the_corrupt_file(
    packed: Path, tiny_files: dict[str, bytes], data_dir: Path
) -> None:
    bad = raw_folder("data") / IMAGES
    bad.write_bytes(b"bad")
    process = start_download(tiny_files, packed, limit_file_size, folder=data_dir.parent)
    process.join()
    assert process.exitcode == 1
    assert Path("error.txt").read_text().startswith("cannot write the dataset to data/")
    assert bad.read_bytes() == b"bad"
    assert not list(bad.parent.glob(".train*"))
    process = start_download(tiny_files, packed, folder=data_dir.parent)
    process.join()
    assert_valid(bad.parent, tiny_files)


@pytest.mark.fault("disk")
@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        (IMAGES, 0o000, None),
        (LABELS, 0o200, None),
        ("", 0o555, None),  # valid files, so nothing is written
        ("corrupt, in a read-only folder", 0o555, "cannot write the dataset to data/"),
        ("", 0o000, "cannot write the dataset to data/"),
    ],
)
def test_file_and_folder_permissions(
    name: str,
    mode: int,
    message: str | None,
    data_dir: Path,
    packed: Path,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As root, permissions have no effect, and pytest's folders are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(data_dir, Path(folder, "data"))
        shutil.copytree(packed, Path(folder, "packed"))
        monkeypatch.chdir(folder)
        raw = raw_folder("data")
        if name.startswith("corrupt"):
            (raw / IMAGES).write_bytes(b"bad")
            name = ""
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o777)
        (raw / name).chmod(mode)
        process = start_download(tiny_files, Path("packed"), drop_privileges, folder=Path(folder))
        process.join()
        raw.chmod(0o755)
        if message:
            assert process.exitcode == 1
            assert message in Path("error.txt").read_text()
        else:
            assert process.exitcode == 0
            assert_valid(raw, tiny_files)
        monkeypatch.chdir(data_dir)
