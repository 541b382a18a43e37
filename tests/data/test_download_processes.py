"""Downloads in other processes: concurrent, killed, on a full disk."""

import os
import signal
import sys
from pathlib import Path

import pytest
from conftest import hashes
from processes import CONTEXT, Fault, limit_file_size
from servers import Server

from fmnist_lightning.data import download as module
from fmnist_lightning.data.download import DataError, download, raw_folder

LABELS = "train-labels-idx1-ubyte"


def assert_valid(raw, files):
    assert {name: (raw / name).read_bytes() for name in files} == files


def _download(folder, files, source, setup, start):
    """The main function of the processes."""
    os.chdir(folder)
    module.FILES = hashes(files)
    module.MIRRORS = (source,) if isinstance(source, str) else ()
    module.DEBIAN_FOLDER = source if isinstance(source, Path) else Path("/nowhere")
    module.APT_SCRIPT = "exit 1"
    if setup is not None:
        setup()
    start.wait()
    try:
        download("data")
    except DataError as error:
        Path("error.txt").write_text(str(error))
        sys.exit(1)


def download_in_processes(num, files, source, setup=None):
    """Downloads to ``data``, from a mirror or a folder, in several processes at the same time.

    Returns their exit codes; that of a signal is negative.
    """
    args = (Path.cwd(), files, source, setup, CONTEXT.Barrier(num))
    processes = [CONTEXT.Process(target=_download, args=args) for _ in range(num)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


@pytest.mark.fault("concurrent_download")
def test_four_processes_download_once(packed, tiny_files):
    with Server(packed, delay=0.1) as slow:
        assert download_in_processes(4, tiny_files, slow.url) == [0] * 4
        assert len(slow.requests) == 4  # by the first; the others waited
    assert_valid(raw_folder("data"), tiny_files)


def is_labels(temporary, target):
    """Whether ``Path.replace`` gives a complete file its name, with one file before it."""
    return target.name == LABELS


@pytest.mark.fault("concurrent_download")
def test_other_processes_finish_after_a_sigkill_between_two_files(packed, tiny_files):
    fault = Fault("pathlib.Path.replace", is_labels)
    assert download_in_processes(1, tiny_files, packed, fault.inject) == [-signal.SIGKILL]
    assert download_in_processes(2, tiny_files, packed) == [0, 0]
    assert_valid(raw_folder("data"), tiny_files)


@pytest.mark.fault("disk")
def test_full_disk_leaves_no_half_written_file(packed, tiny_files):
    assert download_in_processes(1, tiny_files, packed, limit_file_size) == [1]
    assert Path("error.txt").read_text().startswith("cannot read or write the dataset in data/")
    raw = raw_folder("data")
    assert [path.name for path in raw.iterdir()] == [".lock"]
    assert download_in_processes(1, tiny_files, packed) == [0]
    assert_valid(raw, tiny_files)
