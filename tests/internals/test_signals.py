import os
import signal
import sys
from pathlib import Path

import pytest
from conftest import TINY
from processes import Fault, at_step, start

from fmnist_lightning.internals.signals import raise_on_signals
from fmnist_lightning.runs.checkpoint import read_checkpoint


@pytest.mark.fault("signal")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl+C", "SIGTERM"]
)
def test_signal_ends_fit_with_the_command_to_resume(number, code, run):
    fault = at_step(14, signal=number)
    process = start("fit", *TINY, "--trainer.max_epochs=3", fault=fault)
    assert process.wait() == code
    output = process.output.read_text()
    (run_dir,) = Path("runs").iterdir()
    assert output.splitlines()[-1] == (
        "Interrupted at step 14. Resume from step 10 with: "
        f"python -m fmnist_lightning fit --ckpt_path {run_dir}/checkpoints/last.ckpt"
    )
    assert "Traceback" not in output
    for name in ("last.ckpt", "best.ckpt"):
        assert read_checkpoint(run_dir / "checkpoints" / name)["global_step"] == 10
    assert run("fit", "--ckpt_path", "last")[0] == 0


PREPARE = "fmnist_lightning.data.datamodule.FashionMNISTDataModule.prepare_data"


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize(
    "fault",
    [Fault(PREPARE, signal=signal.SIGINT), at_step(0, signal=signal.SIGINT)],
    ids=["setup", "first step"],
)
def test_signal_before_the_first_step_is_done_leaves_no_run(fault):
    process = start("fit", *TINY, fault=fault)
    assert process.wait() == 130
    assert "Resume" not in process.output.read_text()
    assert not Path("runs").exists()


@pytest.mark.fault("signal")
@pytest.mark.slow
@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_signal_ends_other_commands_without_a_traceback(command, fit):
    fit()
    forward = "fmnist_lightning.training.module.FashionClassifier.forward"
    fault = Fault(forward, signal=signal.SIGTERM)
    process = start(command, "--ckpt_path", "best.ckpt", fault=fault)
    assert process.wait() == 143
    assert "Traceback" not in process.output.read_text()


def close_reader():
    """Makes stdout a pipe whose reader has ended, as after ``| head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, sys.stdout.fileno())


def test_closed_pipe_ends_test_without_an_error(fit):
    fit()
    process = start("test", "--ckpt_path", "best.ckpt", first=close_reader)
    assert process.wait() == 141
    assert "error" not in process.output.read_text().lower()


def test_signals_that_are_ignored_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        with raise_on_signals():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
