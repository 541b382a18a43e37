"""Run folders, and ``best.ckpt`` in the current folder, a link to the best checkpoint.

A run folder, ``runs/<time>``, holds ``config.yaml``, event files and ``checkpoints/``.
"""

import contextlib
import filecmp
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fmnist_lightning.internals.files import atomic_write

ROOT = "runs"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
BEST = Path("best.ckpt")


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
        try:
            run_dir.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return run_dir


def latest_run_dir(root: Path) -> Path:
    """The run below ``root`` whose ``last.ckpt`` is the newest."""
    found = list(root.glob(f"*/{CHECKPOINTS}/{LAST}"))
    if not found:
        raise ValueError(
            f"no run to resume: there is no {root}/*/{CHECKPOINTS}/{LAST} in {Path.cwd()}"
        )
    return max(found, key=lambda path: path.stat().st_mtime).parent.parent


def find_run_dir(path: Path, checkpoint: dict[str, Any], root: Path) -> Path | None:
    """The run folder that a checkpoint belongs to, or None if it stands alone.

    The checkpoint may be in its run folder, a link to there, or a copy: its content names the run.
    """
    file = path.resolve()
    if file.parent.name == CHECKPOINTS and (file.parent.parent / "config.yaml").is_file():
        return file.parent.parent
    name = checkpoint.get("run")
    if not isinstance(name, str) or Path(name).name != name:
        return None
    return root / name if (root / name / "config.yaml").is_file() else None


@contextlib.contextmanager
def lock(run_dir: Path, needed: bool = True) -> Iterator[None]:
    """Makes sure that no other process trains the run; the system unlocks it if this one dies."""
    if not needed:  # another rank, or a run that writes nothing
        yield
        return
    path = run_dir / ".lock"
    try:
        with FileLock(path, timeout=0):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows deletes no open files
                    path.unlink()
    except Timeout:
        raise ValueError(f"another process trains {run_dir}: wait for its end") from None


def is_best(checkpoint: Path) -> bool:
    """Whether ``best.ckpt`` in the current folder is ``checkpoint``, or a copy of it."""
    if BEST.is_symlink():
        return os.readlink(BEST) == os.path.relpath(checkpoint)
    return BEST.is_file() and filecmp.cmp(BEST, checkpoint, shallow=False)


def best_version() -> tuple[int, int, int] | None:
    """Changes whenever ``best.ckpt`` in the current folder does; None without one."""
    try:
        found = BEST.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def check_overwrite() -> None:
    """Raises if ``best.ckpt`` in the current folder is not from a fit, which would replace it."""
    if BEST.is_symlink():
        ours = Path(os.readlink(BEST)).parts[-2:] == (CHECKPOINTS, BEST.name)
    else:  # a copy, on a system without links
        copies = Path().glob(f"*/*/{CHECKPOINTS}/{BEST.name}")
        ours = not BEST.exists() or any(filecmp.cmp(BEST, each, shallow=False) for each in copies)
    if not ours:
        raise ValueError(
            f"{BEST.absolute()} is not from a fit in this folder, and fit does not replace it; "
            "move it away or rename it first"
        )


def link_best(checkpoint: Path) -> None:
    """Makes ``best.ckpt`` in the current folder a link to ``checkpoint``, atomically.

    It is a copy where the system does not allow links.
    """
    if is_best(checkpoint):
        return
    temporary = BEST.with_name(f".{BEST.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(os.path.relpath(checkpoint))
    except (OSError, NotImplementedError):
        with atomic_write(BEST) as stream, checkpoint.open("rb") as best:
            shutil.copyfileobj(best, stream)
    else:
        temporary.replace(BEST)
