"""Tests that need a CUDA GPU: `make test-gpu`. The other tests see none."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from capturing import OP_BY_OP, Dropout, Hooked, LogsItsLoss, Recorder, freeze, sgd, train
from comparing import assert_same_run
from samples import CONFIGS, TINY_OPTIONS, OwnStep, train_teacher
from torch import nn
from torch.optim import SGD

from fmnist_lightning import (
    ArticleCNN,
    FashionClassifier,
    RandomAugmentation,
    SmallResNet,
)
from fmnist_lightning.photos import PhotoAugmentation

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU, or not `make test-gpu`"),
]


class Waits(ArticleCNN):
    def forward(self, images):
        logits = super().forward(images)
        return logits * (1 if logits.max().item() < 1e9 else 2)


class MixesOnCPU(nn.Module):
    """Mixes each image with the next by a number that is drawn on the CPU."""

    def forward(self, images, labels):
        return torch.lerp(images.float(), images.roll(1, 0).float(), np.random.rand()).byte()


class CannotBeCaptured(ArticleCNN):
    def forward(self, images):
        if self.training:
            torch.cuda.synchronize()
        return super().forward(images)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (sgd(), {}),
        (sgd(Dropout), {}),
        (sgd(functools.partial(SmallResNet, channels=[8, 16], dropout=0.2)), {}),
        (sgd(augmentation=functools.partial(RandomAugmentation, erase_prob=0.5)), {}),
        (sgd(augmentation=PhotoAugmentation), {}),
        (sgd(functools.partial(SmallResNet, channels=[8, 16])), {"precision": "bf16-mixed"}),
        (sgd(), {"gradient_clip_val": 0.1}),
        (sgd(), {"precision": "64-true"}),
        (sgd(), {"fast_loop": False}),
        (sgd(), {"compile": True}),
    ],
    ids=[
        "default",
        "dropout",
        "ResNet",
        "erasing",
        "photos",
        "bf16",
        "clip",
        "64 bit",
        "Lightning",
        "compile",
    ],
)
@pytest.mark.usefixtures("data_dir")
def test_captured_steps_equal_those_op_by_op(module, options):
    captured, weights = train(module, **options)
    eager, expected = train(module, capture=False, **options)
    assert (captured.num_with_graph, eager.num_with_graph) == (50, 0)
    np.testing.assert_allclose(captured.losses, eager.losses, rtol=1e-3)
    torch.testing.assert_close(weights, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.usefixtures("data_dir")
def test_parameters_that_are_frozen_later_stay_as_they_are():
    captured, weights = train(sgd(), Recorder(freeze))
    eager, expected = train(sgd(), Recorder(freeze), capture=False)
    assert captured.num_with_graph == 50
    np.testing.assert_allclose(captured.losses, eager.losses, rtol=1e-3)
    torch.testing.assert_close(weights, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("module", "options", "reason"),
    [
        (sgd(Waits), {}, "of this error: called a synchronizing CUDA operation"),
        (sgd(augmentation=MixesOnCPU), {}, "it draws random numbers on the CPU"),
        (sgd(Hooked), {}, "hooks are registered"),
        (sgd(), {"accumulate_grad_batches": 2}, "gradients are accumulated"),
        (sgd(), {"precision": "16-mixed"}, "precision 16-mixed scales gradients"),
        (functools.partial(OwnStep, optimizer=functools.partial(SGD, lr=0.1)), {}, ""),
        (functools.partial(LogsItsLoss, optimizer=functools.partial(SGD, lr=0.1)), {}, "it logs"),
    ],
    ids=["waits", "CPU", "hooks", "accumulation", "scaled", "own step", "logs"],
)
@pytest.mark.usefixtures("data_dir")
def test_what_cannot_be_captured_runs_op_by_op(module, options, reason, capsys):
    captured, weights = train(module, **options)
    output = capsys.readouterr().out
    assert output.count(OP_BY_OP + reason) == bool(reason)
    eager, expected = train(module, capture=False, **options)
    assert captured.num_with_graph == 0
    np.testing.assert_allclose(captured.losses, eager.losses, rtol=1e-3)
    torch.testing.assert_close(weights, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.usefixtures("data_dir")
def test_capture_that_fails_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"train with --trainer\.capture false"):
        train(sgd(CannotBeCaptured))


@pytest.mark.parametrize("network", ["ArticleCNN", "SmallResNet"])
def test_resumed_run_equals_one_that_was_never_stopped(fit, run, network):
    options = [
        *("--trainer.accelerator", "gpu", "--trainer.deterministic", "true"),
        *("--model.network", f"fmnist_lightning.{network}", "--model.lr_schedule", "constant"),
        *("--model.augmentation", "fmnist_lightning.RandomAugmentation"),
    ]
    whole, part = (fit(*options, "--trainer.max_epochs", epochs) for epochs in ("4", "2"))
    last = str(part / "checkpoints" / "last.ckpt")
    assert run("fit", "--ckpt_path", last, "--trainer.max_epochs", "4")[0] == 0
    assert_same_run(whole, part)


@pytest.mark.usefixtures("data_dir")
def test_loss_that_is_not_finite_names_the_step():
    messages = []
    for capture in (True, False):
        with pytest.raises(FloatingPointError, match="became NaN or infinite at step") as error:
            train(
                functools.partial(FashionClassifier, optimizer=functools.partial(SGD, lr=1e4)),
                capture=capture,
            )
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_deterministic_runs_are_bit_identical_or_name_the_operation(config, fit):
    train_teacher(config, fit)
    options = ("--config", str(config), *TINY_OPTIONS, "--trainer.deterministic", "true")
    first, second = (fit(*options, "--trainer.accelerator", "gpu") for _ in range(2))
    assert_same_run(first, second)


CALLBACK = """
import torch
from lightning.pytorch import Callback

class RaiseOnSync(Callback):
    # In steps that do not log, PyTorch raises an error where the CPU waits for the GPU, but not in
    # the first of an epoch, which is captured.
    steps = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        assert batch[0].device.type == "cuda" and batch[0].dtype == torch.uint8
        logs = (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        is_end = batch_idx + 1 == trainer.num_training_batches
        may_wait = batch_idx == 0 or logs or is_end
        torch.cuda.set_sync_debug_mode("default" if may_wait else "error")
        RaiseOnSync.steps += not may_wait
"""


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("augmentation", ["RandomAugmentation", "photos.PhotoAugmentation"])
@pytest.mark.parametrize("capture", ["true", "false"])
def test_training_step_does_not_wait_for_the_gpu(fit, augmentation, precision, capture):
    Path("recording.py").write_text(CALLBACK)
    try:
        fit(
            *("--trainer.accelerator", "gpu", "--trainer.precision", precision),
            *("--trainer.callbacks", "recording.RaiseOnSync", "--trainer.capture", capture),
            *("--model.augmentation", f"fmnist_lightning.{augmentation}"),
            *(["--model.augmentation.erase_prob", "0.5"] if augmentation[0] == "R" else []),
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    from recording import RaiseOnSync

    assert RaiseOnSync.steps > 0
