"""Runs of many settings that are killed at random moments, resumed, and compared."""

import os
import random
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from comparing import assert_same_run
from conftest import TINY
from lightning.pytorch import Trainer
from processes import start, wait_for_next_second

from fmnist_lightning.reports import EvaluationFigures

CALLBACK = "--trainer.callbacks+=lightning.pytorch.callbacks."
STOP = (CALLBACK + "EarlyStopping", "--trainer.callbacks.monitor=val/loss")
OPTIMIZER = "--model.optimizer=torch.optim."
# 10 steps are an epoch.
SETTINGS = {
    "max_steps": ("--trainer.max_epochs=-1", "--trainer.max_steps=27"),
    "max_steps, two validations an epoch": (
        *("--trainer.max_epochs=-1", "--trainer.max_steps=27", "--trainer.val_check_interval=0.5"),
    ),
    "max_steps in the first epoch": ("--trainer.max_epochs=-1", "--trainer.max_steps=7"),
    "a validation every 7 steps": (
        "--trainer.check_val_every_n_epoch=null",
        "--trainer.val_check_interval=7",
    ),
    "a validation every 7 steps, max_steps": (
        *("--trainer.max_epochs=-1", "--trainer.max_steps=27"),
        *("--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=7"),
    ),
    "three validations an epoch": ("--trainer.val_check_interval=0.3",),
    "a validation every two epochs": ("--trainer.check_val_every_n_epoch=2",),
    "no validation": ("--trainer.limit_val_batches=0",),
    "limit_train_batches": ("--trainer.limit_train_batches=0.7",),
    "early stop": (*STOP, "--trainer.callbacks.min_delta=9", "--trainer.callbacks.patience=1"),
    "early stop within an epoch": (
        *(*STOP, "--trainer.callbacks.min_delta=9", "--trainer.callbacks.patience=2"),
        *("--trainer.callbacks.check_on_train_epoch_end=false", "--trainer.val_check_interval=0.4"),
    ),
    "min_steps beyond an early stop": (
        *(*STOP, "--trainer.callbacks.min_delta=9", "--trainer.callbacks.patience=1"),
        *("--trainer.min_steps=25", "--trainer.max_epochs=4"),
    ),
    "Timer": (CALLBACK + "Timer", "--trainer.callbacks.duration=00:01:00:00"),
    "max_time": ("--trainer.max_time=00:01:00:00",),
    "LearningRateMonitor": (CALLBACK + "LearningRateMonitor",),
    "a checkpoint every 4 steps": (
        *(CALLBACK + "ModelCheckpoint", "--trainer.callbacks.every_n_train_steps=4"),
        *("--trainer.callbacks.save_top_k=-1", "--trainer.callbacks.filename={step}"),
        "--trainer.callbacks.enable_version_counter=false",  # or a repeated step gets a new name
    ),
    "the 2 best checkpoints": (
        *(CALLBACK + "ModelCheckpoint", "--trainer.callbacks.monitor=val/acc"),
        *("--trainer.callbacks.mode=max", "--trainer.callbacks.save_top_k=2"),
        "--trainer.callbacks.save_last=true",
        # Or Lightning names a checkpoint anew that exists from before a kill.
        "--trainer.callbacks.enable_version_counter=false",
    ),
    "EMA": (CALLBACK + "EMAWeightAveraging", "--trainer.callbacks.decay=0.9"),
    "SWA": (
        *(CALLBACK + "StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.01"),
        *("--trainer.callbacks.swa_epoch_start=2", "--model.lr_schedule=constant"),
    ),
    "accumulated gradients": ("--trainer.accumulate_grad_batches=3",),
    "accumulated gradients by schedule": (
        CALLBACK + "GradientAccumulationScheduler",
        "--trainer.callbacks.scheduling={0: 1, 1: 4}",
        "--model.lr_schedule=constant",
    ),
    "gradient clipping": ("--trainer.gradient_clip_val=0.1",),
    "dropout and augmentation": (
        *("--model.augmentation=fmnist_lightning.RandomAugmentation",),
        *("--model.network=fmnist_lightning.SmallResNet", "--model.network.channels=[8]"),
        "--model.network.dropout=0.3",
    ),
    "CSVLogger": ("--trainer.logger=CSVLogger", "--trainer.logger.save_dir=my logs"),
    "no logger": ("--trainer.logger=false",),
    "bf16-mixed": ("--trainer.precision=bf16-mixed",),
    "bf16-true": ("--trainer.precision=bf16-true",),
    "64-true": ("--trainer.precision=64-true",),
    **{
        name: (OPTIMIZER + name, "--model.optimizer.lr=0.001")
        for name in ("SGD", "Adafactor", "Rprop")
    },
}
QUICK = ("max_steps, two validations an epoch", "early stop within an epoch")
NUM_SEEDS = 3
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


class Kill(NamedTuple):
    """A signal at a function call of ``Trainer.fit``, counted from 1; None counts only."""

    call: int | None = None
    signal: int = signal.SIGKILL

    def inject(self):
        """Counts the calls of this process; writes their number to ``calls``."""
        calls, fit = 0, Trainer.fit
        # Drawing would be half of all calls.
        EvaluationFigures.log_figures = lambda *args: None

        def count(frame, event, argument):
            nonlocal calls
            calls += event == "call"
            if calls == self.call and event == "call":
                os.kill(os.getpid(), self.signal)

        def counting_fit(*args, **kwargs):
            sys.setprofile(count)
            fit(*args, **kwargs)
            sys.setprofile(None)
            Path("calls").write_text(str(calls))

        Trainer.fit = counting_fit


def fit(command, kill):
    """Runs a command; returns whether it reached its end."""
    process = start(*command, first=kill.inject)
    code = process.wait()
    assert code in (0, -signal.SIGKILL, 130, 143), process.output.read_text()
    return code == 0


def fit_with_kills(command, kills):
    """Runs a command, killed and resumed until its end; returns the run folder."""
    earlier = set(Path("runs").iterdir())
    remaining = [*kills, Kill()]
    while not fit(command, remaining.pop(0)):
        folders = set(Path("runs").iterdir()) - earlier
        wait_for_next_second()
        if any((folder / "checkpoints" / "last.ckpt").exists() for folder in folders):
            command = ("fit", "--ckpt_path", "last")
        else:  # killed before there was anything to resume
            earlier |= folders
    (folder,) = set(Path("runs").iterdir()) - earlier
    return folder


@pytest.mark.fault("random_kill")
@pytest.mark.parametrize(
    ("setting", "num_seeds"),
    [
        *((setting, 1) for setting in QUICK),
        *(pytest.param(setting, NUM_SEEDS, marks=pytest.mark.slow) for setting in SETTINGS),
    ],
)
def test_resume_after_random_kills_is_bit_identical(setting, num_seeds, data_dir):
    command = ("fit", *TINY, "--trainer.max_epochs=3", *SETTINGS[setting])
    assert fit(command, Kill())
    (uninterrupted,) = Path("runs").iterdir()
    num_calls = int(Path("calls").read_text())
    for seed in range(num_seeds):
        draw = random.Random(f"{setting} {seed}")
        kills = [
            Kill(draw.randint(1, num_calls), draw.choice(SIGNALS))
            for _ in range(draw.choice([1, 2, 2, 4]))
        ]
        try:
            assert_same_run(uninterrupted, fit_with_kills(command, kills))
        except AssertionError as error:
            raise AssertionError(f"{setting}, seed {seed}, {kills}") from error
