import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning import trainer
from fmnist_lightning.internals.fast_loop import FastEpochLoop
from fmnist_lightning.training.checkpoint import read_checkpoint

Fit = Callable[..., Path]

WATCH = """
import torch
from lightning.pytorch import Callback

class Ends(Callback):
    seen = []
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(("start", batch_idx, trainer.global_step, len(batch[1])))
        pl_module.log("mine", float(batch_idx))
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(("end", batch_idx, trainer.global_step, float(outputs["loss"])))

class Silent(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure=None):
        closure()
        super().step()

class Gradients(Callback):
    seen = []
    def on_after_backward(self, trainer, pl_module):
        self.seen.append(trainer.global_step)
"""


@pytest.fixture(autouse=True)
def _watch() -> Iterator[None]:
    """``watch.py`` in the current folder, imported by this test alone."""
    Path("watch.py").write_text(WATCH)
    yield
    sys.modules.pop("watch", None)


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[FastEpochLoop]:
    """The loops of the fits of a test."""
    made = []

    class Kept(FastEpochLoop):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(trainer, "FastEpochLoop", Kept)
    return made


@pytest.fixture
def lightnings_own(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after whose call Lightning's own steps are taken."""

    def switch() -> None:
        monkeypatch.setattr(trainer, "FastEpochLoop", lambda made: made.fit_loop.epoch_loop)

    return switch


def outcome(folder: Path) -> dict[str, Any]:
    """What a run leaves: its last checkpoint and its curves."""
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    del checkpoint["run"]
    for callback in checkpoint["callbacks"].values():
        for key in [key for key in callback if "path" in key or "models" in key]:
            del callback[key]  # has the name of the run in it
    events: Any = EventAccumulator(str(folder))
    events.Reload()
    curves = {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    return {"checkpoint": checkpoint, "curves": curves}


def assert_same(one: Any, two: Any, where: str = "") -> None:
    assert type(one) is type(two), where
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where} {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for index, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{where} {index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    else:
        assert one == two, where


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--model.lr_schedule=constant"),
        ("--trainer.gradient_clip_val", "0.1"),
        ("--trainer.gradient_clip_val=0.01", "--trainer.gradient_clip_algorithm=value"),
        ("--trainer.precision", "bf16-mixed"),
        ("--trainer.precision", "64-true"),
        ("--trainer.max_steps", "13", "--trainer.val_check_interval", "4"),
        ("--trainer.limit_train_batches", "7", "--trainer.callbacks", "watch.Ends"),
        ("--model.optimizer", "watch.Silent", "--model.optimizer.lr=0.1"),
        ("--model.optimizer", "LBFGS", "--model.optimizer.lr=1e-4", "--model.channels_last=false"),
    ],
    ids=lambda options: " ".join(options).replace("--trainer.", "").replace("--model.", ""),
)
def test_results_are_bit_identical_to_lightnings(
    options: tuple[str, ...],
    fit: Fit,
    loops: list[FastEpochLoop],
    lightnings_own: Callable[[], None],
) -> None:
    ours = outcome(fit(*options))
    assert loops[0].use_fast_path
    lightnings_own()
    assert_same(ours, outcome(fit(*options)))
    assert len(loops) == 1


def test_callbacks_see_the_same_steps_as_with_lightning(
    fit: Fit, lightnings_own: Callable[[], None]
) -> None:
    fit("--trainer.callbacks", "watch.Ends")
    from watch import Ends  # type: ignore[import-not-found]

    ours = list(Ends.seen)
    assert len(ours) == 2 * 20
    Ends.seen.clear()
    lightnings_own()
    fit("--trainer.callbacks", "watch.Ends")
    assert ours == Ends.seen


@pytest.mark.parametrize(
    "options",
    [
        ("--trainer.callbacks", "watch.Gradients"),
        ("--trainer.accumulate_grad_batches", "2"),
        ("--trainer.profiler", "simple"),
    ],
)
def test_epoch_that_needs_more_runs_lightnings_steps(
    options: tuple[str, ...], fit: Fit, loops: list[FastEpochLoop]
) -> None:
    fit(*options)
    assert not loops[0].use_fast_path
    if "watch.Gradients" in options:
        from watch import Gradients

        assert Gradients.seen == list(range(20))
    if "2" in options:
        assert loops[0].global_step == 10


def test_hooks_set_on_a_callback_are_called(fit: Fit) -> None:
    Path("counting.py").write_text("steps = []\ndef count(*args):\n    steps.append(1)\n")
    fit(
        *("--trainer.callbacks", "lightning.pytorch.callbacks.LambdaCallback"),
        *("--trainer.callbacks.on_train_batch_end", "counting.count"),
        *("--trainer.callbacks.on_after_backward", "counting.count"),
    )
    assert len(sys.modules.pop("counting").steps) == 40
