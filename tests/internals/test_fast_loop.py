import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comparing import assert_equal, curves

from fmnist_lightning.internals import fast_loop
from fmnist_lightning.internals.fast_loop import FastEpochLoop
from fmnist_lightning.training.checkpoint import read_checkpoint

Fit = Callable[..., Path]

CALLBACKS = """
import torch
from lightning.pytorch import Callback

class Steps(Callback):
    calls = []
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.calls.append(("start", batch_idx, trainer.global_step, len(batch[1])))
        pl_module.log("mine", float(batch_idx))
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.calls.append(("end", batch_idx, trainer.global_step, float(outputs["loss"])))

class ClosureWithoutLoss(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure=None):
        closure()
        super().step()

class GradientHook(Callback):
    calls = []
    def on_after_backward(self, trainer, pl_module):
        self.calls.append(trainer.global_step)
"""


@pytest.fixture(autouse=True)
def _recording_module() -> Iterator[None]:
    """``recording.py`` in the current folder, imported anew by each test."""
    Path("recording.py").write_text(CALLBACKS)
    yield
    sys.modules.pop("recording", None)


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[FastEpochLoop]:
    """Collects the FastEpochLoop of each fit of a test."""
    loops = []

    class RecordedLoop(FastEpochLoop):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            loops.append(self)

    monkeypatch.setattr(fast_loop, "FastEpochLoop", RecordedLoop)
    return loops


@pytest.fixture
def use_lightnings_loop(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that switches later fits to Lightning's own loop."""

    def switch() -> None:
        monkeypatch.setattr(fast_loop, "FastEpochLoop", lambda trainer: trainer.fit_loop.epoch_loop)

    return switch


def outcome(folder: Path) -> dict[str, Any]:
    """The last checkpoint and the curves of a run."""
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    del checkpoint["run"]
    for callback in checkpoint["callbacks"].values():
        for key in [key for key in callback if "path" in key or "models" in key]:
            del callback[key]  # contains the name of the run
    return {"checkpoint": checkpoint, "curves": curves(folder)}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--model.lr_schedule=constant"),
        ("--trainer.gradient_clip_val", "0.1"),
        ("--trainer.gradient_clip_val=0.01", "--trainer.gradient_clip_algorithm=value"),
        ("--trainer.precision", "bf16-mixed"),
        ("--trainer.precision", "64-true"),
        ("--trainer.max_steps", "14", "--trainer.val_check_interval", "4"),
        ("--trainer.limit_train_batches", "7", "--trainer.callbacks", "recording.Steps"),
        ("--model.optimizer", "recording.ClosureWithoutLoss", "--model.optimizer.lr=0.1"),
        ("--model.optimizer", "LBFGS", "--model.optimizer.lr=1e-4", "--model.channels_last=false"),
    ],
    ids=lambda options: " ".join(options).replace("--trainer.", "").replace("--model.", ""),
)
def test_results_are_bit_identical_to_lightnings_loop(
    options: tuple[str, ...],
    fit: Fit,
    loops: list[FastEpochLoop],
    use_lightnings_loop: Callable[[], None],
) -> None:
    ours = outcome(fit(*options))
    assert loops[0].use_fast_path
    use_lightnings_loop()
    assert_equal(ours, outcome(fit(*options)))
    assert len(loops) == 1


def test_callbacks_get_the_same_steps_as_with_lightnings_loop(
    fit: Fit, use_lightnings_loop: Callable[[], None]
) -> None:
    fit("--trainer.callbacks", "recording.Steps")
    from recording import Steps  # type: ignore[import-not-found]

    ours = list(Steps.calls)
    assert len(ours) == 2 * 20
    Steps.calls.clear()
    use_lightnings_loop()
    fit("--trainer.callbacks", "recording.Steps")
    assert ours == Steps.calls


@pytest.mark.parametrize(
    "options",
    [
        ("--trainer.callbacks", "recording.GradientHook"),
        ("--trainer.accumulate_grad_batches", "2"),
        ("--trainer.profiler", "simple"),
    ],
)
def test_unsupported_settings_use_lightnings_loop(
    options: tuple[str, ...], fit: Fit, loops: list[FastEpochLoop]
) -> None:
    fit(*options)
    assert not loops[0].use_fast_path
    if "recording.GradientHook" in options:
        from recording import GradientHook

        assert GradientHook.calls == list(range(20))
    if "2" in options:
        assert loops[0].global_step == 10


def test_hooks_set_on_a_callback_instance_are_called(fit: Fit) -> None:
    Path("counting.py").write_text("steps = []\ndef count(*args):\n    steps.append(1)\n")
    fit(
        *("--trainer.callbacks", "lightning.pytorch.callbacks.LambdaCallback"),
        *("--trainer.callbacks.on_train_batch_end", "counting.count"),
        *("--trainer.callbacks.on_after_backward", "counting.count"),
    )
    assert len(sys.modules.pop("counting").steps) == 40


FAULTS = """
import resource
import torch
from fmnist_lightning.internals.fast_loop import keep_freed_memory

def count() -> int:
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensors = [torch.ones(2_000_000) for _ in range(10)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(count())
keep_freed_memory()
print(count())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    output = subprocess.check_output([sys.executable, "-c", FAULTS])
    before, after = map(int, output.split())
    assert after < 100 < before
