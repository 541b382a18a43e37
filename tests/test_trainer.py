"""``create_trainer`` as a script uses it."""

import functools
import re
import threading
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from comparing import assert_same_run
from lightning.pytorch import (
    Callback,
    seed_everything,
)
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning
from processes import wait_for_next_second
from samples import DarkAndBright, tiny_data
from torch import nn
from torch.optim import SGD

from fmnist_lightning import (
    FashionClassifier,
    FashionMNISTDataModule,
    RandomAugmentation,
    SmallResNet,
    create_trainer,
)
from fmnist_lightning.runs.checkpoint import read_checkpoint

pytestmark = [
    pytest.mark.usefixtures("data_dir"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]
CPU = {"accelerator": "cpu", "devices": 1, "log_every_n_steps": 5}


def test_non_finite_loss_stops_fit():
    classifier = FashionClassifier(
        optimizer=functools.partial(SGD, lr=1e30), lr_schedule="constant"
    )
    trainer = create_trainer(max_epochs=2, **CPU)
    with pytest.raises(FloatingPointError, match=r"the loss became NaN or infinite at step"):
        trainer.fit(classifier, datamodule=tiny_data())


class SmoothedClassifier(FashionClassifier):
    """Trains with noise on the logits and label smoothing."""

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self(self.augmentation(images, labels))
        logits = logits + 0.1 * torch.randn_like(logits)
        self.keep_outputs("train", batch_idx, labels, logits.detach())
        self.log("train/max_logit", logits.max())
        return nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)


class Interruption(Callback):
    """Raises an error in a training step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 25:
            raise OSError("interrupted")


def assert_resume_is_exact(classifier, data, *callbacks):
    """Of a fit of 4 epochs that is interrupted in the third."""

    def fit(run_dir, *others, ckpt_path=None):
        seed_everything(0)
        used = [*(callback() for callback in callbacks), *others]
        trainer = create_trainer(max_epochs=4, run_dir=run_dir, callbacks=used, **CPU)
        trainer.fit(classifier(), datamodule=data(), ckpt_path=ckpt_path)

    uninterrupted, interrupted = Path("runs/whole"), Path("runs/halves")
    fit(uninterrupted)
    with pytest.raises(OSError, match="interrupted"):
        fit(interrupted, Interruption())
    last = interrupted / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == 20
    wait_for_next_second()
    fit(interrupted, ckpt_path=last)
    assert_same_run(uninterrupted, interrupted)


def test_resume_of_a_subclass_on_own_images_is_bit_identical():
    classifier = functools.partial(
        SmoothedClassifier,
        network=functools.partial(SmallResNet, channels=(8,), dropout=0.2),
        augmentation=RandomAugmentation,
        classes=DarkAndBright.classes,
    )
    assert_resume_is_exact(classifier, functools.partial(DarkAndBright, batch_size=50))


def network_with_backbone():
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(16, 10)))


class FreezeLater(BaseFinetuning):
    """Freezes the backbone in the second epoch."""

    def freeze_before_training(self, pl_module):
        pass

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.freeze(pl_module.backbone, train_bn=False)


class UnfreezeAll(Callback):
    """Trains nothing but the head until the third epoch; the optimizer has all."""

    def setup(self, trainer, pl_module, stage):
        pl_module.build_optimizer = lambda _: SGD(pl_module.parameters(), lr=0.1)
        pl_module.backbone.requires_grad_(False)

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            pl_module.backbone.requires_grad_(True)


@pytest.mark.parametrize(
    "callback",
    [functools.partial(BackboneFinetuning, 1, train_bn=False), FreezeLater, UnfreezeAll],
    ids=["BackboneFinetuning", "freeze", "unfreeze"],
)
def test_resume_trains_the_weights_that_callbacks_had_not_frozen(callback):
    optimizer = functools.partial(SGD, lr=0.1)
    classifier = functools.partial(
        FashionClassifier, network_with_backbone, optimizer, lr_schedule="constant"
    )
    assert_resume_is_exact(classifier, tiny_data, callback)


class CtrlC(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 14:
            raise KeyboardInterrupt


def test_interrupted_script_says_how_to_go_on(capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning ignores any other Ctrl+C
    seed_everything(0)
    uninterrupted = create_trainer(max_epochs=3, **CPU)
    uninterrupted.fit(FashionClassifier(), datamodule=tiny_data())
    seed_everything(0)
    trainer = create_trainer(max_epochs=3, callbacks=(ctrl_c := CtrlC()), **CPU)
    classifier, data = FashionClassifier(), tiny_data()
    with pytest.raises(SystemExit):
        trainer.fit(classifier, datamodule=data)
    (path,) = re.findall(
        r"Interrupted at step 14\. Resume from step 10 with: trainer\.fit\(\.\.\., "
        r'ckpt_path="(.*)"\)\n$',
        capsys.readouterr().out,
    )
    trainer.callbacks.remove(ctrl_c)
    wait_for_next_second()
    trainer.fit(classifier, datamodule=data, ckpt_path=path)  # the same, as in a notebook
    assert_same_run(Path(uninterrupted.default_root_dir), Path(trainer.default_root_dir))


def test_second_fit_of_a_trainer_says_that_another_trainer_is_needed(capsys):
    trainer = create_trainer(max_epochs=1, **CPU)
    for _ in range(2):
        line = "This trainer has done 10 steps; a new run needs a new trainer"
        assert line not in capsys.readouterr().out
        trainer.fit(FashionClassifier(), datamodule=tiny_data())
    assert line in capsys.readouterr().out


class OtherDataModule(FashionMNISTDataModule):
    """The same images under another name."""


def test_resume_with_other_data_is_refused(capsys):
    def fit(data, ckpt_path=None):
        trainer = create_trainer(run_dir=Path("runs/mine"), max_epochs=1, logger=False, **CPU)
        trainer.fit(FashionClassifier(), datamodule=data, ckpt_path=ckpt_path)

    fit(tiny_data())
    other = OtherDataModule(train_size=480, val_size=120, batch_size=50)
    last = Path("runs/mine/checkpoints/last.ckpt")
    before = last.read_bytes()
    for data, message in (
        (tiny_data(split_seed=1), "trained with split_seed 0, not 1"),
        (other, "was trained on fmnist_lightning.FashionMNISTDataModule"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(data, ckpt_path=last)
        assert last.read_bytes() == before
        assert "Stopped at step" not in capsys.readouterr().out


def test_trainer_in_a_thread_says_that_results_are_not_repeatable(capsys):
    line = "Fits in threads share one random generator: their results can't be repeated"
    create_trainer(max_epochs=1, **CPU)
    assert line not in capsys.readouterr().out
    thread = threading.Thread(target=create_trainer, kwargs={"max_epochs": 1, **CPU})
    thread.start()
    thread.join()
    assert line in capsys.readouterr().out


class Stop(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


def test_another_run_goes_on_from_one_that_stopped_early(capsys):
    def fit(name, *callbacks, **kwargs):
        options = {"max_epochs": 2, "limit_val_batches": 0, "logger": False}
        trainer = create_trainer(run_dir=Path("runs", name), callbacks=callbacks, **options, **CPU)
        trainer.fit(FashionClassifier(), datamodule=tiny_data(), **kwargs)
        return trainer.global_step

    assert fit("first", Stop()) == 10
    last = Path("runs/first/checkpoints/last.ckpt")
    line = f"Without a validation, best.ckpt is not of this run; use {last}"
    assert line in capsys.readouterr().out
    assert fit("second", ckpt_path=last) == 20
