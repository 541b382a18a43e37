"""Tests that need a CUDA GPU: `make test-gpu`. The other tests see none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU, or not `make test-gpu`"),
]

CALLBACK = """
import torch
from lightning.pytorch import Callback

class RaiseOnSync(Callback):
    # In steps that do not log, PyTorch raises an error where the CPU waits for the GPU, but not in
    # the first one, which initializes libraries.
    steps = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        assert batch[0].device.type == "cuda" and batch[0].dtype == torch.uint8
        first = trainer.global_step == 0
        logs = (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        last = batch_idx + 1 == trainer.num_training_batches
        torch.cuda.set_sync_debug_mode("default" if first or logs or last else "error")
        RaiseOnSync.steps += not (first or logs or last)
"""


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("augmentation", ["RandomAugmentation", "photos.PhotoAugmentation"])
def test_training_step_does_not_wait_for_the_gpu(
    fit: Callable[..., Path], augmentation: str, precision: str
) -> None:
    Path("recording.py").write_text(CALLBACK)
    try:
        fit(
            *("--trainer.accelerator", "gpu", "--trainer.precision", precision),
            *("--trainer.callbacks", "recording.RaiseOnSync"),
            *("--model.augmentation", f"fmnist_lightning.{augmentation}"),
            *(["--model.augmentation.erase_prob", "0.5"] if augmentation[0] == "R" else []),
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    from recording import RaiseOnSync  # type: ignore[import-not-found]

    assert RaiseOnSync.steps > 0
