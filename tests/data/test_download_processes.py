"""Downloads in other processes: concurrent, killed, without permissions, on a full disk."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from conftest import hashes
from processes import CONTEXT, Fault, drop_privileges, limit_file_size
from servers import Server

from fmnist_lightning.data import download as module
from fmnist_lightning.data.download import DataError, download, raw_folder

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


def assert_valid(raw: Path, files: dict[str, bytes]) -> None:
    assert {name: (raw / name).read_bytes() for name in files} == files


def _download_in_process(
    folder: Path,
    files: dict[str, bytes],
    source: str | Path,
    setup: Callable[[], None] | None = None,
) -> None:
    """Downloads to ``data`` in ``folder``, from a mirror or a folder."""
    os.chdir(folder)
    module.FILES = hashes(files)
    module.MIRRORS = (source,) if isinstance(source, str) else ()
    module.DEBIAN_FOLDER = source if isinstance(source, Path) else Path("/nowhere")
    module.APT_SCRIPT = "exit 1"
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
def test_four_processes_download_once(
    packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    slow = Server(packed, delay=0.1)
    processes = [start_download(tiny_files, slow.url, folder=tmp_path) for _ in range(4)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert_valid(raw_folder("data"), tiny_files)
    assert len(slow.requests) == 4  # by the first; the others waited
    slow.server.shutdown()
    slow.server.server_close()


def is_labels(temporary: Path, target: Path) -> bool:
    """Whether ``Path.replace`` gives a complete file its name, with one file before it."""
    return target.name == LABELS


@pytest.mark.fault("concurrent_download")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("gzip.decompress"), marks=pytest.mark.slow, id="at the first file"),
        pytest.param(Fault("pathlib.Path.replace", is_labels), id="between two files"),
    ],
)
def test_other_processes_finish_after_a_sigkill(
    fault: Fault, packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    dying = start_download(tiny_files, packed, fault.inject, folder=tmp_path)
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    healthy = [start_download(tiny_files, packed, folder=tmp_path) for _ in range(2)]
    for process in healthy:
        process.join()
    assert [process.exitcode for process in healthy] == [0, 0]
    assert_valid(raw_folder("data"), tiny_files)


@pytest.mark.fault("disk")
def test_full_disk_leaves_no_half_written_file(
    packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    process = start_download(tiny_files, packed, limit_file_size, folder=tmp_path)
    process.join()
    assert process.exitcode == 1
    assert Path("error.txt").read_text().startswith("cannot read or write the dataset in data/")
    raw = raw_folder("data")
    assert [path.name for path in raw.iterdir()] == [".lock"]
    process = start_download(tiny_files, packed, folder=tmp_path)
    process.join()
    assert_valid(raw, tiny_files)


@pytest.mark.fault("disk")
@pytest.mark.parametrize(
    ("name", "mode", "is_missing", "exit_code"),
    [
        (IMAGES, 0o000, False, 1),
        ("", 0o555, False, 0),  # valid files, so nothing is written
        ("", 0o555, True, 1),
        ("", 0o000, False, 1),
    ],
    ids=["unreadable file", "read-only folder", "file to write", "unreadable folder"],
)
def test_file_and_folder_permissions(
    name: str,
    mode: int,
    is_missing: bool,
    exit_code: int,
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
        if is_missing:
            (raw / IMAGES).unlink()
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o777)
        (raw / name).chmod(mode)
        process = start_download(tiny_files, Path("packed"), drop_privileges, folder=Path(folder))
        process.join()
        raw.chmod(0o755)
        assert process.exitcode == exit_code
        if exit_code:
            assert "cannot read or write the dataset in data/" in Path("error.txt").read_text()
        else:
            assert_valid(raw, tiny_files)
        monkeypatch.chdir(data_dir)
