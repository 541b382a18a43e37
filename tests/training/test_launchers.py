"""The launchers of distributed runs, called as users call them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from comparing import assert_close, free_port
from conftest import MLP, TINY

from fmnist_lightning.data import download as sources

# Python imports sitecustomize first: the tiny dataset is the expected one in all processes.
SITE = """
import json, pathlib
from fmnist_lightning.data import download as sources
sources.FILES = json.loads(pathlib.Path("files.json").read_text())
sources.MIRRORS, sources.DEBIAN_FOLDER = (), pathlib.Path("/nowhere")
"""
MODULE = "-m fmnist_lightning"
TORCHRUN = "-m torch.distributed.run"
ON_TWO = "--trainer.accelerator cpu --trainer.devices 2"
ON_EACH = "--trainer.accelerator cpu --trainer.devices 1 --trainer.num_nodes 2"
Command = tuple[dict[str, str], str]  # environment variables, arguments of Python


def on_one_machine(args):
    return [({}, f"{MODULE} {args} {ON_TWO}")]


def by_torchrun(args):
    return [({}, f"{TORCHRUN} --nproc-per-node 2 --standalone {MODULE} {args} {ON_TWO}")]


def by_torchrun_on_two_machines(args):
    """Both machines are this one."""
    machines = f"--nnodes 2 --master-addr 127.0.0.1 --master-port {free_port()}"
    launcher = f"{TORCHRUN} --nproc-per-node 1 {machines}"
    return [({}, f"{launcher} --node-rank {rank} {MODULE} {args} {ON_EACH}") for rank in range(2)]


def by_srun_on_two_machines(args):
    """The variables that ``srun`` sets on two machines of a cluster; both are this one."""
    job = {"SLURM_JOB_ID": free_port(), "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "2"}
    job |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}
    job |= {"MASTER_PORT": free_port()}
    return [
        (job | {"SLURM_PROCID": rank, "SLURM_NODEID": rank}, f"{MODULE} {args} {ON_EACH}")
        for rank in ("0", "1")
    ]


LAUNCHERS = (on_one_machine, by_torchrun, by_torchrun_on_two_machines, by_srun_on_two_machines)


@pytest.fixture
def launch(data_dir):
    """Runs commands at the same time, and returns their output."""
    Path("files.json").write_text(json.dumps(sources.FILES))
    Path("site").mkdir()
    Path("site/sitecustomize.py").write_text(SITE)
    paths = os.pathsep.join(["site", *sys.path])
    common = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}

    def launch(commands):
        running = [
            subprocess.Popen(
                [sys.executable, *line.split()],
                env=os.environ | common | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for environment, line in commands
        ]
        output = [process.communicate(timeout=300)[0] for process in running]
        assert not any(process.returncode for process in running), "\n".join(output)
        return "\n".join(output)

    return launch


@pytest.mark.fault("two_processes")
@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.__name__)
def test_each_launcher_gives_the_result_of_one_process(launcher, launch, fit, run):
    constant = (*MLP, "--model.lr_schedule", "constant")
    ours = fit(*constant)
    output = launch(launcher(" ".join(["fit", *TINY, *constant, "--trainer.max_epochs=2"])))
    (theirs,) = set(Path("runs").iterdir()) - {ours}
    assert output.count("val loss") == 3  # rank 0 only: two epochs and the best
    assert_close(ours, theirs)

    test = "test --ckpt_path best.ckpt"
    launch(launcher(test))
    both = json.loads((theirs / "test.json").read_text())
    assert run(*test.split())[0] == 0
    alone = json.loads((theirs / "test.json").read_text())
    assert both["correct"] == alone["correct"]
    assert both["classes"] == alone["classes"]

    # Both runs can be resumed by two processes.
    for folder in (theirs, ours):
        os.utime(folder / "checkpoints" / "last.ckpt")
        output = launch(launcher("fit --ckpt_path last --trainer.max_epochs 3"))
        assert f"Resuming {folder} from step 20" in output
    assert_close(ours, theirs)
