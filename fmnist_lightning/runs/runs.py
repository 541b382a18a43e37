"""Run folders: ``runs/<time>_<network>`` has ``config.yaml``, event files and ``checkpoints/``."""

import contextlib
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fmnist_lightning.internals.console import print_line

ROOT = "runs"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
CONFIG = "config.yaml"


def find_root(path: str | Path | None) -> Path:
    """The folder of all runs, where None is the default."""
    return Path(path or ROOT).expanduser()


def create_run_dir(root: Path, suffix: str | None = None) -> Path:
    """Creates a folder below ``root`` named after the time; no two processes get the same one.

    Raises ValueError if the ``suffix`` of its name can't be part of one.
    """
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    if suffix is not None:
        if not re.fullmatch(r"[\w.+=-]+", suffix):
            raise ValueError(f"--name may have letters, digits and _.+=-, not {suffix!r}")
        name += f"_{suffix}"
    number = 1
    while True:
        run_dir = root / (name if number == 1 else f"{name}_{number}")
        with contextlib.suppress(FileExistsError):
            run_dir.mkdir(parents=True)
            return run_dir
        number += 1


def remove(run_dir: Path | None) -> None:
    """Removes a run folder in which nothing was trained, and an empty folder around it."""
    if run_dir:
        shutil.rmtree(run_dir, ignore_errors=True)
        with contextlib.suppress(OSError):  # there are other runs
            run_dir.parent.rmdir()


def find_latest(root: Path) -> Path:
    """The newest ``last.ckpt`` of the runs below ``root``."""
    paths = list(root.glob(f"*/{CHECKPOINTS}/{LAST}"))
    if not paths:
        raise ValueError(
            f"no run to resume: there is no {root}/*/{CHECKPOINTS}/{LAST} in {Path.cwd()}"
        )
    return max(paths, key=lambda path: path.stat().st_mtime)


def find_run_dir(path: str | Path, run_name: object, root: Path) -> Path | None:
    """The run folder that a checkpoint belongs to, or None if it stands alone.

    The checkpoint is in its run folder, is a link to there, or is a copy that names the run.
    """
    file = Path(path).resolve()
    folder = file.parent.parent
    is_run = (folder / CONFIG).is_file() or folder.name == run_name  # a script saves no config
    if file.parent.name == CHECKPOINTS and is_run:
        return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    run_dirs = (checkpoints.parent for checkpoints in root.glob(f"*/{CHECKPOINTS}"))
    return next((run_dir for run_dir in run_dirs if run_dir.name == run_name), None)


def lock(run_dir: Path) -> contextlib.AbstractContextManager[Any]:
    """Lets one process at a time train a run; the lock is released if this process dies."""
    path = run_dir / ".lock"
    try:
        return FileLock(path, timeout=0, fallback_to_soft=False).acquire()
    except Timeout:
        raise ValueError(
            f"{run_dir} is being trained by another process; wait until it finishes. If there is "
            f"none, another machine has left its lock: remove {path}"
        ) from None
    except OSError as error:  # the file system has no locks
        print_line(f"cannot lock {run_dir} ({error}); do not train it in another process")
        return contextlib.nullcontext()
