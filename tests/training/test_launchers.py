"""The launchers that README names, as users call them, in real processes."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from comparing import assert_alike, free_port
from conftest import DEVICES, MLP, TINY, Run

from fmnist_lightning.data import download as sources

# Python runs this before anything else: the tiny data set is the right one also there.
SITE = """
import pathlib, pickle
from fmnist_lightning.data import download as sources
sources.FILES = tuple(
    sources.DataFile(*file) for file in pickle.loads(pathlib.Path("files.pickle").read_bytes())
)
sources.MIRRORS, sources.DEBIAN_FOLDER = (), pathlib.Path("/nowhere")
"""
MODULE = (sys.executable, "-m", "fmnist_lightning")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node")
ON_EACH = ("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.num_nodes", "2")
Command = tuple[dict[str, str], tuple[str, ...]]  # what is set in the environment, and the line


def on_one_machine(*args: str) -> list[Command]:
    return [({}, (*MODULE, *args, *DEVICES))]


def by_torchrun(*args: str) -> list[Command]:
    return [({}, (*TORCHRUN, "2", "--standalone", "-m", "fmnist_lightning", *args, *DEVICES))]


def by_torchrun_on_two_machines(*args: str) -> list[Command]:
    """Both of which are this one."""
    port = ("--master-addr", "127.0.0.1", "--master-port", free_port())
    return [
        (
            {},
            (
                *(*TORCHRUN, "1", "--nnodes", "2", "--node-rank", rank, *port),
                *("-m", "fmnist_lightning", *args, *ON_EACH),
            ),
        )
        for rank in ("0", "1")
    ]


def by_srun_on_two_machines(*args: str) -> list[Command]:
    """What ``srun`` sets on two machines of a cluster; both are this one."""
    job = {"SLURM_JOB_ID": free_port(), "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "2"}
    job |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}
    job |= {"MASTER_PORT": free_port()}
    return [
        (job | {"SLURM_PROCID": rank, "SLURM_NODEID": rank}, (*MODULE, *args, *ON_EACH))
        for rank in ("0", "1")
    ]


LAUNCHERS = (on_one_machine, by_torchrun, by_torchrun_on_two_machines, by_srun_on_two_machines)


@pytest.fixture
def launch(data_dir: Path) -> Callable[[list[Command]], str]:
    """Runs command lines side by side, and gives what they print."""
    Path("files.pickle").write_bytes(pickle.dumps([tuple(file) for file in sources.FILES]))
    Path("site").mkdir()
    Path("site/sitecustomize.py").write_text(SITE)
    paths = os.pathsep.join(["site", str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    common = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}

    def launch(commands: list[Command]) -> str:
        running = [
            subprocess.Popen(
                line,
                env=os.environ | common | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for environment, line in commands
        ]
        said = [process.communicate(timeout=300)[0] for process in running]
        assert not any(process.returncode for process in running), "\n".join(said)
        return "\n".join(said)

    return launch


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.__name__)
def test_two_processes_come_to_what_one_does(
    launcher: Callable[..., list[Command]],
    launch: Callable[[list[Command]], str],
    fit: Callable[..., Path],
    run: Run,
) -> None:
    constant = (*MLP, "--model.lr_schedule", "constant")
    ours = fit(*constant)
    said = launch(launcher("fit", *TINY, *constant, "--trainer.max_epochs=2"))
    (theirs,) = set(Path("runs").iterdir()) - {ours}
    assert said.count("val loss") == 3  # only the first process speaks: two epochs, and the best
    assert_alike(ours, theirs)

    test = ("test", "--ckpt_path", "best.ckpt")
    launch(launcher(*test))
    both = json.loads((theirs / "test.json").read_text())
    assert run(*test)[0] == 0
    alone = json.loads((theirs / "test.json").read_text())
    assert both["correct"] == alone["correct"]
    assert both["classes"] == alone["classes"]

    # It goes on, where it was two processes, and where it was one.
    more = ("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    for folder in (theirs, ours):
        os.utime(folder / "checkpoints" / "last.ckpt")
        said = launch(launcher(*more))
        assert f"Resuming {folder} from step 20" in said
    assert_alike(ours, theirs)
