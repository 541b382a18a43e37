"""Systems that lack what Linux has. They are not run here: what they lack is taken away."""

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Run
from processes import start


def refuse(*args: Any) -> None:
    """Fails as Windows does where links need a privilege."""
    raise OSError("a required privilege is not held by the client")


def become_windows() -> None:
    """Takes away links, forks, CPU affinity, resource usage and /proc."""
    for name in ("fork", "sched_getaffinity", "geteuid", "getuid", "mkfifo"):
        delattr(os, name)
    setattr(os, "symlink", refuse)  # noqa: B010
    sys.modules["resource"] = None  # type: ignore[assignment]
    multiprocessing.set_start_method("spawn", force=True)
    read_text, is_dir = Path.read_text, Path.is_dir

    def read_other_text(path: Path, *args: Any, **kwargs: Any) -> str:
        if str(path).startswith(("/proc/", "/sys/")):
            raise FileNotFoundError(path)
        return read_text(path, *args, **kwargs)

    setattr(Path, "read_text", read_other_text)  # noqa: B010
    setattr(Path, "is_dir", lambda path: str(path) != "/dev/shm" and is_dir(path))  # noqa: B010


@pytest.mark.slow
def test_commands_without_what_only_linux_has(data_dir: Path, run: Run) -> None:
    for command in (
        ("fit", *TINY, "--trainer.max_epochs=2", "--model.lr_schedule=constant"),
        ("fit", "--ckpt_path", "last", "--trainer.max_epochs=3"),
        ("test", "--ckpt_path", "best.ckpt"),
    ):
        process = start(*command, first=become_windows)
        assert process.wait() == 0, process.output.read_text()
    assert "test accuracy" in process.output.read_text()
    assert not Path("best.ckpt").is_symlink()  # a copy
