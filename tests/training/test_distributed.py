"""Runs of two processes, connected by gloo, compared with runs of one."""

import json
import signal
from pathlib import Path

import pytest
import torch
from comparing import assert_close, assert_same_run, curves, free_port
from conftest import DEVICES, MLP, TINY
from processes import at_step, start, wait_for_next_second
from torch import nn


def start_two(*args, faults=(None, None)):
    """Starts two processes as ``torchrun`` does; see :func:`processes.start`."""
    common = {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"},
        **{"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"},
    }
    return [
        start(
            *(*args, *DEVICES),
            fault=fault,
            environment=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank, fault in enumerate(faults)
    ]


def run_two(*args):
    """Runs two processes to their end."""
    processes = start_two(*args)
    codes = [process.wait() for process in processes]
    assert codes == [0, 0], "\n".join(process.output.read_text() for process in processes)


def fit_two(*args):
    """Fits with two processes, and returns the run folder."""
    before = set(Path("runs").glob("*"))
    run_two("fit", *TINY, "--trainer.max_epochs", "2", *args)
    (folder,) = set(Path("runs").iterdir()) - before
    return folder


class ImageRecorder(nn.Module):
    """An augmentation that changes nothing, and records images and random numbers in a file."""

    def forward(self, images, labels):
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else "alone"
        record = {"sums": images.sum(dim=(1, 2)).tolist(), "random": float(torch.rand(()))}
        with Path(f"images-{rank}.txt").open("a") as stream:
            print(json.dumps(record), file=stream)
        return images

    @staticmethod
    def read(rank):
        return [json.loads(line) for line in Path(f"images-{rank}.txt").read_text().splitlines()]


@pytest.mark.fault("two_processes")
def test_two_processes_train_like_one(fit):
    options = (*MLP, "--model.augmentation", "test_distributed.ImageRecorder")
    ours, theirs = fit(*options), fit_two(*options)

    alone, *both = (ImageRecorder.read(each) for each in ("alone", 0, 1))
    assert len(alone) == len(both[0]) == len(both[1]) == 20
    for one, first, second in zip(alone, *both, strict=True):
        assert sorted(one["sums"]) == sorted(first["sums"] + second["sums"])
        assert first["random"] != second["random"]

    assert_close(ours, theirs)
    # Only rank 0 writes files.
    assert _files(ours) == _files(theirs)


def _files(folder):
    """The file names of a run, without time and process in those of event files."""
    return sorted(path.name.split(".tfevents")[0] for path in folder.rglob("*") if path.is_file())


@pytest.mark.fault("two_processes")
@pytest.mark.parametrize("eval_batch_size", [pytest.param("8", marks=pytest.mark.slow), "104"])
def test_each_image_is_counted_once(eval_batch_size, fit, run):
    # 105 test and 119 validation images; with batches of 104, one rank has one batch more.
    odd = (*TINY, "--data.val_size", "119")
    # It has batch normalisation.
    network = ("--model.network=fmnist_lightning.SmallResNet", "--model.network.channels=[8]")
    folder = fit(*odd, *network)
    for command, name in (("test", "test.json"), ("validate", "validate.json")):
        options = (command, "--ckpt_path", "best.ckpt", "--data.eval_batch_size", eval_batch_size)
        assert run(*options)[0] == 0
        alone = json.loads((folder / name).read_text())
        (folder / name).unlink()
        run_two(*options)
        both = json.loads((folder / name).read_text())
        assert both["classes"] == alone["classes"]
        assert both["correct"] == alone["correct"]
        assert both["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert both["ece"] == pytest.approx(alone["ece"], rel=1e-5)


def test_fit_with_batch_norm_and_uneven_last_batches(data_dir):
    network = ("--model.network=SmallResNet", "--model.network.channels=[4, 8, 8]")
    odd = ("--data.val_size", "105", "--data.eval_batch_size", "104", "--data.train_size", "481")
    folder = fit_two(*network, *odd)
    assert [step for step, _ in curves(folder)["val/loss"]] == [9, 19]


@pytest.mark.fault("dead_rank")
@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_resume_after_a_dead_rank_is_bit_identical(victim, fit):
    options = (
        *("--model.network=fmnist_lightning.SmallResNet", "--model.network.channels=[8]"),
        "--model.network.dropout=0.3",
        "--model.augmentation=fmnist_lightning.RandomAugmentation",
    )
    uninterrupted = fit_two(*options)
    faults = (at_step(14), None) if victim == 0 else (None, at_step(14))
    both = start_two("fit", *TINY, "--trainer.max_epochs", "2", *options, faults=faults)
    assert both[victim].wait() == -signal.SIGKILL
    assert both[1 - victim].wait() == 1
    output = both[1 - victim].output.read_text()
    assert "error: a distributed worker exited; see its output" in output
    assert "Traceback" not in output
    assert ("Interrupted at step 14. Resume from step 10 with: " in output) == (victim == 1)
    wait_for_next_second()
    run_two("fit", "--ckpt_path", "last")
    (resumed,) = set(Path("runs").iterdir()) - {uninterrupted}
    assert_same_run(uninterrupted, resumed)
