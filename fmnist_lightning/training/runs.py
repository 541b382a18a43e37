"""Run folders, and ``best.ckpt`` in the current folder, which leads to the best of the latest fit.

A run's folder holds ``config.yaml``, the dashboard's event files and ``checkpoints/``.
"""

import filecmp
import os
import shutil
from datetime import datetime
from pathlib import Path

from fmnist_lightning.internals.files import atomic_write

CHECKPOINTS = "checkpoints"
BEST = Path("best.ckpt")


def create_run_dir(root: Path) -> Path:
    """Makes a folder of its own for a run, named after the time.

    Args:
        root: The folder of all runs.

    Returns:
        The new folder; no two processes get the same.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while True:
        folder = root / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def latest_run_dir(root: Path) -> Path:
    """Finds the run that saved its ``last.ckpt`` most recently.

    Args:
        root: The folder of all runs.

    Raises:
        ValueError: If there is none.
    """
    found = list(root.glob(f"*/{CHECKPOINTS}/last.ckpt"))
    if not found:
        raise ValueError(
            f"there is no run to continue: no {root}/*/{CHECKPOINTS}/last.ckpt in {Path.cwd()}"
        )
    return max(found, key=lambda path: path.stat().st_mtime).parent.parent


def find_run_dir(checkpoint: Path, root: Path) -> Path | None:
    """Finds the run folder that a checkpoint belongs to.

    Args:
        checkpoint: A checkpoint in its run folder, a link to one, or a copy of one below ``root``.
        root: The folder of all runs.

    Returns:
        The folder, or None where the checkpoint stands alone.
    """
    file = checkpoint.resolve()
    if file.parent.name == CHECKPOINTS and (file.parent.parent / "config.yaml").is_file():
        return file.parent.parent
    for original in root.glob(f"*/{CHECKPOINTS}/*.ckpt"):
        if filecmp.cmp(file, original, shallow=False):
            return original.parent.parent
    return None


def check_overwrite(root: Path) -> None:
    """Makes sure that ``best.ckpt`` in the current folder may be replaced.

    Args:
        root: The folder of all runs.

    Raises:
        ValueError: If something of that name is there that no fit here put there: neither a link to
            a run's best checkpoint nor a copy of one.
    """
    if BEST.is_symlink():
        ours = Path(os.readlink(BEST)).parts[-2:] == (CHECKPOINTS, BEST.name)
    else:
        ours = not BEST.exists() or (BEST.is_file() and find_run_dir(BEST, root) is not None)
    if not ours:
        raise ValueError(
            f"{BEST.absolute()} is not from a fit in this folder, and fit would replace it; "
            "move it away or rename it first"
        )


def link_best(checkpoint: Path) -> None:
    """Makes ``best.ckpt`` in the current folder lead to ``checkpoint``.

    It becomes a link where the system allows links, or else a copy, and is whole at every moment.

    Args:
        checkpoint: The best checkpoint so far of the run in progress.
    """
    target = os.path.relpath(checkpoint)
    if BEST.is_symlink() and os.readlink(BEST) == target:
        return
    temporary = BEST.with_name(f".{BEST.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
    except (OSError, NotImplementedError):
        if not (BEST.is_file() and filecmp.cmp(checkpoint, BEST)):
            with atomic_write(BEST) as stream, checkpoint.open("rb") as best:
                shutil.copyfileobj(best, stream)
    else:
        temporary.replace(BEST)
