import re
from pathlib import Path

import pytest
from conftest import TINY
from lightning.pytorch import Callback
from torch import nn

from fmnist_lightning.runs.checkpoint import read_checkpoint


class UnstableNetwork(nn.Module):
    """Linear; in one training step, logits and their gradients are multiplied by the factors."""

    def __init__(self, step: int, logit_factor: float = 1.0, gradient_factor: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.step, self.logit_factor, self.gradient_factor = step, logit_factor, gradient_factor
        self.calls = 0

    def forward(self, inputs):
        logits = self.layer(inputs.flatten(1))
        self.calls += self.training
        if self.training and self.calls == self.step:
            logits = logits * self.logit_factor
            logits.register_hook(lambda gradient: gradient * self.gradient_factor)
        return logits


class StepCounter(Callback):
    """Writes to a file how many steps were done."""

    def on_train_batch_end(self, trainer, *_):
        Path("steps").write_text(str(trainer.global_step))


@pytest.mark.fault("non_finite")
@pytest.mark.parametrize("value", [".nan", ".inf"])
@pytest.mark.parametrize(
    ("log_every", "validate_every", "last_step"),
    [("3", "1", "15"), ("0", "1", "20"), ("0", "3", "20")],
    ids=["logging step", "validation", "checkpoint"],  # where the losses are checked
)
@pytest.mark.parametrize("fast_loop", ["true", "false"])
def test_non_finite_loss_stops_the_run(value, log_every, validate_every, last_step, fast_loop, run):
    code, out, err = run(
        *("fit", *TINY, "--trainer.max_epochs=3", f"--trainer.log_every_n_steps={log_every}"),
        f"--trainer.check_val_every_n_epoch={validate_every}",
        *("--model.network=test_non_finite.UnstableNetwork", "--model.network.step=14"),
        f"--model.network.logit_factor={value}",
        *("--trainer.callbacks=test_non_finite.StepCounter", f"--trainer.fast_loop={fast_loop}"),
    )
    assert code == 1
    assert err.splitlines()[-1] == (
        "error: the loss became NaN or infinite at step 14 (epoch 2); no checkpoint was saved "
        "after that. A lower --model.optimizer.lr may help"
    )
    assert Path("steps").read_text() == last_step
    (run_dir,) = Path("runs").iterdir()
    assert not (run_dir / "traceback.txt").exists()
    saved_paths = list((run_dir / "checkpoints").glob("*.ckpt"))
    assert len(saved_paths) == (2 if validate_every == "1" else 1)
    for path in saved_paths:
        saved = read_checkpoint(path)
        assert saved["global_step"] == 10
        assert all(weight.isfinite().all() for weight in saved["state_dict"].values())
    assert "val loss nan" not in out


@pytest.mark.fault("non_finite")
def test_non_finite_weights_are_not_saved(run):
    code, _, err = run(
        *("fit", *TINY, "--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=3"),
        *("--model.network=test_non_finite.UnstableNetwork", "--model.network.step=20"),
        "--model.network.gradient_factor=.nan",
    )
    assert code == 1
    assert re.search(
        r"error: the weights network\.layer\.\w+ became NaN or infinite at step 20 \(epoch 2\);",
        err,
    )
    (run_dir,) = Path("runs").iterdir()
    assert read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["global_step"] == 10
