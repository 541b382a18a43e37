"""The launchers that README names, as users call them, in real processes."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY, Run
from test_distributed import DEVICES, MLP
from test_resume import curves

from fmnist_lightning.checkpoints import read_checkpoint

# Python runs this before anything else: the tiny data set is the right one also there.
SITE = """
import pathlib, pickle
from fmnist_lightning import sources
sources.FILES = tuple(
    sources.DataFile(*file) for file in pickle.loads(pathlib.Path("files.pickle").read_bytes())
)
sources.MIRRORS, sources.DEBIAN_FOLDER = (), pathlib.Path("/nowhere")
"""
PYTHON = (sys.executable, "-m")
TORCHRUN = (*PYTHON, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
LAUNCHERS = {
    "devices": (*PYTHON, "fmnist_lightning"),
    "torchrun": (*TORCHRUN, "fmnist_lightning"),
}


@pytest.fixture
def launch(data_dir: Path) -> Callable[..., str]:
    """Runs a command line of its own, and gives what it prints."""
    from fmnist_lightning import sources

    Path("files.pickle").write_bytes(pickle.dumps([tuple(file) for file in sources.FILES]))
    Path("site").mkdir()
    Path("site/sitecustomize.py").write_text(SITE)

    def launch(*command: str, code: int = 0) -> str:
        paths = os.pathsep.join(["site", str(Path(__file__).parent)])
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return launch


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_two_processes_come_to_what_one_does(
    name: str, launch: Callable[..., str], fit: Callable[..., Path], run: Run
) -> None:
    constant = (*MLP, "--model.schedule", "constant")
    ours = fit(*constant)
    said = launch(*LAUNCHERS[name], "fit", *TINY, *constant, "--trainer.max_epochs=2", *DEVICES)
    (theirs,) = set(Path("runs").iterdir()) - {ours}
    assert said.count("val loss") == 3  # only the first process speaks: two epochs, and the best
    assert_alike(ours, theirs)

    test = ("test", "--ckpt_path", "best.ckpt")
    launch(*LAUNCHERS[name], *test, *DEVICES)
    both = json.loads((theirs / "test.json").read_text())
    assert run(*test)[0] == 0
    alone = json.loads((theirs / "test.json").read_text())
    assert both["correct"] == alone["correct"]
    assert both["classes"] == alone["classes"]

    # It goes on, where it was two processes, and where it was one.
    more = ("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    for folder in (theirs, ours):
        os.utime(folder / "checkpoints" / "last.ckpt")
        said = launch(*LAUNCHERS[name], *more, *DEVICES)
        assert f"going on with {folder} after step 20" in said
    assert_alike(ours, theirs)


def assert_alike(ours: Path, theirs: Path) -> None:
    """That two runs came to the same up to rounding."""
    one, other = (read_checkpoint(each / "checkpoints" / "last.ckpt") for each in (ours, theirs))
    assert one["global_step"] == other["global_step"]
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(value, other["state_dict"][key], atol=1e-3, rtol=1e-3)
    ours_read, theirs_read = curves(ours), curves(theirs)
    for tag in ("train/loss", "train/acc", "val/loss", "val/acc"):
        torch.testing.assert_close(
            torch.tensor(ours_read[tag]), torch.tensor(theirs_read[tag]), atol=2e-3, rtol=2e-3
        )
