import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Run
from lightning.pytorch import Callback
from torch import Tensor, nn

from fmnist_lightning.training.checkpoint import read_checkpoint


class Scale(torch.autograd.Function):
    """Multiplies logits and their gradients, each by a factor."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, logit_factor: float, gradient_factor: float) -> Tensor:
        ctx.gradient_factor = gradient_factor
        return logits * logit_factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.gradient_factor, None, None


class UnstableNetwork(nn.Module):
    """Linear; in one training step, logits and gradients are multiplied by the factors."""

    def __init__(self, step: int, logit_factor: float = 1.0, gradient_factor: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.step, self.factors = step, (logit_factor, gradient_factor)
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layer(inputs.flatten(1))
        self.calls += self.training
        unstable = self.training and self.calls == self.step
        return Scale.apply(logits, *self.factors) if unstable else logits


class GradientHook(Callback):
    """Has a hook that FastEpochLoop does not support, so that Lightning's own loop runs."""

    def on_after_backward(self, trainer: object, pl_module: object) -> None:
        pass


@pytest.mark.fault("non_finite")
@pytest.mark.parametrize("value", [".nan", ".inf"])
@pytest.mark.parametrize("every", ["3", "10"])
@pytest.mark.parametrize("callbacks", ["null", "test_non_finite.GradientHook"])
def test_non_finite_loss_stops_the_run(value: str, every: str, callbacks: str, run: Run) -> None:
    code, out, err = run(
        *("fit", *TINY, "--trainer.max_epochs=3", f"--trainer.log_every_n_steps={every}"),
        *("--model.network=test_non_finite.UnstableNetwork", "--model.network.step=14"),
        f"--model.network.logit_factor={value}",
        f"--trainer.callbacks={callbacks}",
    )
    assert code == 1
    assert err.splitlines()[-1] == (
        "error: from step 14 on, in epoch 2, the loss is not finite; no later checkpoint was "
        "saved. A lower --model.optimizer.lr may help"
    )
    (run_dir,) = Path("runs").iterdir()
    for name in ("last.ckpt", "best.ckpt"):
        saved = read_checkpoint(run_dir / "checkpoints" / name)
        assert saved["global_step"] == 10
        assert all(weight.isfinite().all() for weight in saved["state_dict"].values())
    assert "epoch  2" not in out


@pytest.mark.fault("non_finite")
def test_non_finite_weights_are_not_saved(run: Run) -> None:
    code, _, err = run(
        *("fit", *TINY, "--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=3"),
        *("--model.network=test_non_finite.UnstableNetwork", "--model.network.step=20"),
        "--model.network.gradient_factor=.nan",
    )
    assert code == 1
    assert re.search(r"error: after step 20, the weights \S+ are not finite; no later", err)
    (run_dir,) = Path("runs").iterdir()
    assert read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["global_step"] == 10
