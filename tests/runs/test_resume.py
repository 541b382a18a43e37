"""Runs that are killed, resumed, and compared with an uninterrupted run."""

import time
from functools import partial
from pathlib import Path

import pytest
from comparing import assert_same_run
from conftest import TINY
from processes import (
    Fault,
    at_step,
    before_replacing,
    limit_file_size,
    start,
    wait_for_next_second,
)
from samples import CONFIGS, TINY_OPTIONS, train_teacher
from tensorboard.summary.writer.record_writer import RecordWriter

from fmnist_lightning.runs.checkpoint import read_checkpoint

PACKAGE = "fmnist_lightning"


def is_best_of(step, checkpoint):
    """Whether ``link_best`` gets the checkpoint of a step."""
    return bool(read_checkpoint(checkpoint)["global_step"] == step)


def is_last_of(step, trainer, path, *args, **kwargs):
    """Whether ``Trainer.save_checkpoint`` saves ``last.ckpt`` of a step."""
    return trainer.global_step == step and Path(path).name == "last.ckpt"


def is_validation_of(after, logger, metrics, step):
    """Whether ``log_metrics`` gets the metrics of the validation after a step."""
    return step == after - 1 and "val/loss" in metrics


def is_removed_after(step, path, **kwargs):
    """Whether ``Path.unlink`` tidies up after ``last.ckpt`` of a step was replaced."""
    last = path.with_name("last.ckpt")
    return path.name.startswith(".last.ckpt.") and is_best_of(step, last)


# 10 steps are an epoch.
MOMENTS = {
    "before the first step": [at_step(0)],
    "within a later epoch": [at_step(23)],
    "in validation": [at_step(20, "validation_step")],
    "while best.ckpt is written": [before_replacing("best.ckpt", 20)],
    "before best.ckpt links to it": [
        Fault(f"{PACKAGE}.runs.run_checkpoint.link_best", partial(is_best_of, 20))
    ],
    "between best.ckpt and last.ckpt": [
        Fault("lightning.pytorch.Trainer.save_checkpoint", partial(is_last_of, 20))
    ],
    "while last.ckpt is written": [before_replacing("last.ckpt", 20)],
    "after last.ckpt is written": [Fault("pathlib.Path.unlink", partial(is_removed_after, 20))],
    "between two curves": [
        Fault(
            f"{PACKAGE}.reports.logger.RunTensorBoardLogger.log_metrics",
            partial(is_validation_of, 20),
        )
    ],
    "before the final charts": [
        Fault(f"{PACKAGE}.reports.evaluation.EvaluationFigures.on_train_end")
    ],
    "on a full disk": [at_step(24, signal=0, action=limit_file_size)],
    "three times": [at_step(3), at_step(14), before_replacing("last.ckpt", 20)],
}
QUICK = ("while last.ckpt is written",)
RANDOM = (
    *("--model.augmentation", "fmnist_lightning.RandomAugmentation"),
    *("--model.network", "fmnist_lightning.SmallResNet", "--model.network.channels", "[8]"),
    *("--model.network.dropout", "0.3"),
    *("--trainer.max_epochs", "4", "--trainer.log_every_n_steps", "2"),
)


def delay_event_writer():
    """Slows TensorBoard's writer thread down, as a slow disk does."""
    original = RecordWriter.write

    def delayed_write(self, data):
        time.sleep(0.01)
        original(self, data)

    RecordWriter.write = delayed_write


def interrupt_and_resume(faults, options, run):
    """Interrupts a run by each fault in turn, resumes it to its end, and returns its folder."""
    before = set(Path("runs").iterdir())
    command = ("fit", *TINY, *options)
    for fault in faults:
        process = start(*command, fault=fault, first=delay_event_writer)
        assert process.wait() == (-fault.signal or 1), process.output.read_text()
        wait_for_next_second()
        command = ("fit", "--ckpt_path", "last")
    code, _, err = run(*command)
    assert code == 0, err
    (folder,) = set(Path("runs").iterdir()) - before
    return folder


@pytest.mark.fault("sigkill")
@pytest.mark.parametrize(
    "moment",
    [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in MOMENTS],
)
def test_resume_after_sigkill_is_bit_identical(moment, fit, run):
    uninterrupted = fit(*RANDOM)
    assert_same_run(uninterrupted, interrupt_and_resume(MOMENTS[moment], RANDOM, run))


@pytest.mark.slow
def test_resume_of_a_compiled_run_is_bit_identical(fit, run):
    options = (*RANDOM, "--trainer.compile", "true")
    uninterrupted = fit(*options)
    faults = [at_step(6), at_step(23)]
    assert_same_run(uninterrupted, interrupt_and_resume(faults, options, run))


@pytest.mark.fault("sigkill")
@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_resume_of_every_config_is_bit_identical(path, fit, run):
    options = (
        *("--config", str(path), *TINY_OPTIONS),
        *("--trainer.max_epochs", "3", "--data.batch_size", "150"),
    )
    train_teacher(path, fit)
    uninterrupted = fit(*options)
    faults = [at_step(1), at_step(5)]
    assert_same_run(uninterrupted, interrupt_and_resume(faults, options, run))
