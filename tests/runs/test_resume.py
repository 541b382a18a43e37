"""Runs that are killed, resumed, and compared with an uninterrupted run."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from comparing import assert_same_run
from conftest import TINY, Run
from processes import Fault, limit_file_size, start
from samples import CONFIGS, TINY_OPTIONS, train_teacher
from tensorboard.summary.writer.record_writer import RecordWriter

from fmnist_lightning.runs.checkpoint import read_checkpoint

PACKAGE = "fmnist_lightning"
STEP = f"{PACKAGE}.training.module.FashionClassifier.training_step"  # 10 of them in an epoch
MOMENTS = {
    "before the first step": [Fault(STEP, 1)],
    "within the first epoch": [Fault(STEP, 7)],
    "within a later epoch": [Fault(STEP, 24)],
    "in validation": [Fault(f"{PACKAGE}.training.module.FashionClassifier.validation_step", 2)],
    "before best.ckpt links to it": [Fault(f"{PACKAGE}.runs.run_checkpoint.link_best", 3)],
    "while best.ckpt is written": [Fault("os.fsync", 4)],
    "between best.ckpt and last.ckpt": [
        Fault("lightning.pytorch.trainer.trainer.Trainer.save_checkpoint", 5)
    ],
    "while last.ckpt is written": [Fault("os.fsync", 5)],
    "between two curves": [Fault(f"{PACKAGE}.reports.logger.RunTensorBoardLogger.log_metrics", 9)],
    "before the final charts": [
        Fault(f"{PACKAGE}.reports.evaluation.EvaluationFigures.on_train_end", 1)
    ],
    "on a full disk": [Fault(STEP, 25, signal=0, action=limit_file_size)],
    "three times": [Fault(STEP, 4), Fault(STEP, 15), Fault("os.fsync", 2)],
}
QUICK = ("while last.ckpt is written",)
RANDOM = (
    *("--model.augmentation", "fmnist_lightning.RandomAugmentation"),
    *("--model.network", "fmnist_lightning.SmallResNet", "--model.network.channels", "[8]"),
    *("--model.network.dropout", "0.3"),
    *("--trainer.max_epochs", "4", "--trainer.log_every_n_steps", "2"),
)


def interrupt_and_resume(faults: list[Fault], options: tuple[str, ...], run: Run) -> Path:
    """Interrupts a run by each fault in turn, resumes it to its end, and returns its folder."""
    before = set(Path("runs").iterdir())
    command = ("fit", *TINY, *options)
    for fault in faults:
        process = start(*command, fault=fault)
        assert process.wait() == (-fault.signal or 1), process.output.read_text()
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
def test_resume_after_sigkill_is_bit_identical(
    moment: str, fit: Callable[..., Path], run: Run
) -> None:
    uninterrupted = fit(*RANDOM)
    assert_same_run(uninterrupted, interrupt_and_resume(MOMENTS[moment], RANDOM, run))


@pytest.mark.slow
def test_resume_of_a_compiled_run_is_bit_identical(fit: Callable[..., Path], run: Run) -> None:
    options = (*RANDOM, "--trainer.compile", "true")
    uninterrupted = fit(*options)
    faults = [Fault(STEP, 7), Fault(STEP, 24)]
    assert_same_run(uninterrupted, interrupt_and_resume(faults, options, run))


def delay_event_writer() -> None:
    """Slows TensorBoard's writer thread down, as a slow disk does."""
    original = RecordWriter.write

    def delayed_write(self: RecordWriter, data: bytes) -> None:
        time.sleep(0.03)
        original(self, data)

    RecordWriter.write = delayed_write


@pytest.mark.slow
def test_curves_are_written_before_the_checkpoint(fit: Callable[..., Path], run: Run) -> None:
    uninterrupted = fit(*RANDOM)
    # Killed after last.ckpt of the second epoch was replaced.
    fault = Fault("pathlib.Path.unlink", 6)
    process = start("fit", *TINY, *RANDOM, fault=fault, first=delay_event_writer)
    assert process.wait() == -signal.SIGKILL
    (folder,) = set(Path("runs").iterdir()) - {uninterrupted}
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 20
    assert run("fit", "--ckpt_path", "last")[0] == 0
    assert_same_run(uninterrupted, folder)


@pytest.mark.fault("sigkill")
@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_resume_of_every_config_is_bit_identical(
    path: Path, fit: Callable[..., Path], run: Run
) -> None:
    options = (
        *("--config", str(path), *TINY_OPTIONS),
        *("--trainer.max_epochs", "3", "--data.batch_size", "150"),
    )
    train_teacher(path, fit)
    uninterrupted = fit(*options)
    faults = [Fault(STEP, 2), Fault(STEP, 6)]
    assert_same_run(uninterrupted, interrupt_and_resume(faults, options, run))


def test_options_of_a_resumed_run_are_printed(fit: Callable[..., Path], run: Run) -> None:
    folder = fit("--model.lr_schedule", "constant")
    _, out, _ = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert out.splitlines()[0] == f"Resuming {folder} from step 20 with --trainer.max_epochs 3"
    _, out, _ = run("fit", "--ckpt_path", "last")
    assert out.splitlines()[0] == f"Resuming {folder} from step 30"
