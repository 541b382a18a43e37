import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import TINY
from processes import start

from fmnist_lightning.internals.workers import worker_start_method


def use_fork_server() -> None:
    """Python's default on Linux from 3.14 on."""
    multiprocessing.set_start_method("forkserver", force=True)


def processes_of_group(group: int) -> set[int]:
    """The processes of a process group that have not ended."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(of_group) == group and state != "Z":
            found.add(int(folder.name))
    return found


def start_group_with_fork_server() -> None:
    os.setpgrp()
    use_fork_server()


def test_default_is_kept_without_workers_or_fork_server() -> None:
    assert worker_start_method(0) is None
    assert worker_start_method(2) is None or multiprocessing.get_start_method() == "forkserver"


@pytest.mark.usefixtures("data_dir")
def test_killed_run_leaves_no_workers() -> None:
    process = start(
        *("fit", *TINY, "--data.num_workers=2", "--trainer.max_epochs=1000"),
        first=start_group_with_fork_server,
    )
    process.wait_for(" 2/1000")
    group = process.process.pid
    assert group is not None
    assert len(processes_of_group(group)) > 2  # with its workers
    os.kill(group, signal.SIGKILL)
    until = time.monotonic() + 30
    while processes_of_group(group) and time.monotonic() < until:
        time.sleep(0.1)
    assert not processes_of_group(group)
