import functools
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Run
from lightning.pytorch import Callback
from processes import Fault, limit_file_size, start
from torch import Tensor, nn

from fmnist_lightning.training.checkpoint import read_checkpoint

STEP = "fmnist_lightning.training.module.FashionClassifier.training_step"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl+C", "SIGTERM"]
)
def test_a_signal_stops_a_fit_and_says_how_to_go_on(number: int, code: int, run: Run) -> None:
    process = start("fit", *TINY, "--trainer.max_epochs=3", fault=Fault(STEP, 15, number))
    assert process.wait() == code
    said = process.output.read_text()
    assert said.splitlines()[-1] == (
        "Interrupted at step 14. Resume from step 10 with: "
        "python -m fmnist_lightning fit --ckpt_path last"
    )
    assert "Traceback" not in said
    (folder,) = Path("runs").iterdir()
    for name in ("last.ckpt", "best.ckpt"):
        assert read_checkpoint(folder / "checkpoints" / name)["global_step"] == 10
    assert run("fit", "--ckpt_path", "last")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["test", "validate", "predict"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_other_commands(
    command: str, number: int, code: int, fit: Callable[..., Path]
) -> None:
    fit()
    forward = "fmnist_lightning.training.module.FashionClassifier.forward"
    process = start(command, "--ckpt_path", "best.ckpt", fault=Fault(forward, 1, number))
    assert process.wait() == code
    assert "Traceback" not in process.output.read_text()


def nobody_reads() -> None:
    """Makes the output a pipe whose reader is gone, as after ``| head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, sys.stdout.fileno())


def test_output_that_nobody_reads(fit: Callable[..., Path]) -> None:
    fit()
    process = start("test", "--ckpt_path", "best.ckpt", first=nobody_reads)
    assert process.wait() == 141
    said = process.output.read_text()
    assert "error" not in said.lower()


class Scale(torch.autograd.Function):
    """Multiplies logits, or only what comes back to them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, there: float, back: float) -> Tensor:
        ctx.back = back
        return logits * there

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.back, None, None


class Sick(nn.Module):
    """A network whose logits, or gradients, become what they are told at a step."""

    def __init__(self, step: int, there: float = 1.0, back: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.step, self.factors = step, (there, back)
        self.calls = 0

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.layer(pixels.flatten(1))
        self.calls += self.training
        sick = self.training and self.calls == self.step
        return Scale.apply(logits, *self.factors) if sick else logits


@pytest.mark.parametrize("value", [".nan", ".inf"])
@pytest.mark.parametrize("every", ["3", "10"])
@pytest.mark.parametrize("callbacks", ["null", "test_signals_and_non_finite.Odd"])
def test_a_loss_that_is_not_finite_stops_the_run(
    value: str, every: str, callbacks: str, run: Run
) -> None:
    code, out, err = run(
        *("fit", *TINY, "--trainer.max_epochs=3", f"--trainer.log_every_n_steps={every}"),
        *("--model.network=test_signals_and_non_finite.Sick", "--model.network.step=14"),
        f"--model.network.there={value}",
        f"--trainer.callbacks={callbacks}",
    )
    assert code == 1
    rate = read_rate(14)
    assert err.splitlines()[-1] == (
        f"error: from step 14 on (epoch 2, learning rate {rate:.3g}), the loss is not finite; no "
        "later checkpoint was saved. A lower --model.optimizer.lr may help"
    )
    (folder,) = Path("runs").iterdir()
    for name in ("last.ckpt", "best.ckpt"):
        saved = read_checkpoint(folder / "checkpoints" / name)
        assert saved["global_step"] == 10
        assert all(value.isfinite().all() for value in saved["state_dict"].values())
    assert "epoch  2" not in out


class Odd(Callback):
    """Has a hook that makes the epoch go through Lightning's own steps."""

    def on_after_backward(self, trainer: object, pl_module: object) -> None:
        pass


def read_rate(step: int) -> float:
    """The learning rate of a step of a default fit of three epochs of ten steps."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.AdamW([weight], lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=30, pct_start=0.1, cycle_momentum=False
    )
    for _ in range(step - 1):
        optimizer.step()
        schedule.step()
    return float(optimizer.param_groups[0]["lr"])


def test_nor_are_weights_saved_that_are_not_finite(run: Run) -> None:
    code, _, err = run(
        *(
            "fit",
            *TINY,
            "--trainer.max_epochs=3",
            "--model.network=test_signals_and_non_finite.Sick",
        ),
        *("--model.network.step=20", "--model.network.back=.nan"),
        "--trainer.check_val_every_n_epoch=3",
    )
    assert code == 1
    assert re.search(r"error: after step 20, the weights \S+ are not finite; no later", err)
    (folder,) = Path("runs").iterdir()
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 10


@pytest.mark.parametrize("size", [1_000, 60_000])
def test_a_disk_that_is_full_is_known_at_the_start(size: int, data_dir: Path) -> None:
    process = start("fit", *TINY, first=functools.partial(limit_file_size, size))
    assert process.wait() == 1
    said = process.output.read_text().splitlines()
    assert said[-1].startswith("error: [Errno 27] File too large")
    assert "Traceback" not in " ".join(said)
    assert not [line for line in said if line.startswith("epoch")]


def test_so_is_a_folder_that_cannot_be_written(data_dir: Path) -> None:
    # Not even root can write there.
    process = start("fit", *TINY, "--trainer.default_root_dir", "/proc/runs")
    assert process.wait() == 1
    assert process.output.read_text().splitlines()[-1].startswith("error: [Errno 2] No such file")
