import functools
import shutil
from pathlib import Path

import pytest
import torch
from comparing import assert_equal
from conftest import TINY
from lightning.pytorch import seed_everything
from samples import THIRD_PARTY, tiny_data

from fmnist_lightning import (
    Distillation,
    FashionClassifier,
    RandomAugmentation,
    create_trainer,
    load_classifier,
)
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.runs.checkpoint import read_checkpoint

DISTILL = (
    *("--trainer.callbacks", "fmnist_lightning.Distillation"),
    *("--trainer.callbacks.teacher", "teacher.ckpt"),
)


@pytest.fixture
def teacher(fit):
    """``teacher.ckpt`` in the current folder."""
    fit("--model.network", "fmnist_lightning.SmallResNet", "--model.network.channels", "[8]")
    shutil.copy("best.ckpt", "teacher.ckpt")
    return Path("teacher.ckpt")


class RecordedClassifier(FashionClassifier):
    """Keeps augmented images and targets of each training step."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = []

    def compute_loss(self, images, targets):
        self.steps.append((images, targets))
        return super().compute_loss(images, targets)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_targets_are_the_probabilities_of_the_teacher_for_the_augmented_images(precision, teacher):
    seed_everything(0, verbose=False)
    classifier = RecordedClassifier(
        augmentation=functools.partial(RandomAugmentation, hflip_prob=1, max_translation=0)
    )
    trainer = create_trainer(
        max_epochs=1,
        limit_train_batches=3,
        logger=False,
        callbacks=Distillation(str(teacher)),
        precision=precision,
    )
    trainer.fit(classifier, datamodule=tiny_data())
    network = load_classifier(teacher).network
    tolerance = 2e-2 if precision == "bf16-mixed" else 1e-6
    for images, targets in classifier.steps:
        expected = network(images[:, None] / 255).softmax(dim=1)
        torch.testing.assert_close(targets, expected, rtol=0, atol=tolerance)
    assert len(classifier.steps) == 3
    assert classifier.soft_labels is None


def test_other_commands_need_no_teacher(teacher, fit, run):
    folder, plain = fit(*DISTILL), FashionClassifier()
    distilled = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert distilled["state_dict"].keys() == plain.state_dict().keys()
    assert distilled["hyper_parameters"] == dict(plain.hparams)
    teacher.unlink()
    for options in ((), ("--config", str(folder / "config.yaml"))):
        code, _, err = run("test", "--ckpt_path", "best.ckpt", *options)
        assert code == 0, err


@pytest.mark.usefixtures("teacher")
def test_resumed_run_learns_from_the_teacher(fit, run):
    constant = (*DISTILL, "--model.lr_schedule", "constant")
    uninterrupted = fit(*constant)
    resumed = fit(*constant, "--trainer.max_epochs", "1")
    code, _, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert code == 0, err
    assert_equal(
        *(
            read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
            for folder in (uninterrupted, resumed)
        )
    )


def test_teacher_of_your_own_class_needs_trust(fit, refused):
    Path("my_networks.py").write_text(THIRD_PARTY)
    fit("--model.network", "my_networks.Net")
    shutil.copy("best.ckpt", "teacher.ckpt")
    assert "names the class my_networks.Net" in refused("fit", *TINY, *DISTILL)
    fit(*DISTILL, "--trainer.callbacks.trusted", '["my_networks.Net"]')


def test_best_ckpt_is_no_teacher(fit, run):
    fit()
    code, _, err = run("fit", *TINY, *DISTILL[:-1], "best.ckpt")
    assert code == 1
    assert "fit replaces the teacher best.ckpt: copy it to teacher.ckpt" in err


@pytest.mark.usefixtures("teacher")
def test_teacher_with_other_validation_images_is_refused(fit, refused):
    for name, saved, value in (("split_seed", 0, 1), ("val_size", 120, 110)):
        message = refused("fit", *DISTILL, *TINY, f"--data.{name}", str(value))
        assert f"the network was trained with {name} {saved}, not {value}" in message
        assert "images it was trained on would count as validation images" in message
    fit(*DISTILL, "--data.train_size", "240")  # of the same validation images


def test_teacher_of_other_classes_is_refused(teacher):
    trainer = create_trainer(max_epochs=1, logger=False, callbacks=Distillation(str(teacher)))
    with pytest.raises(ValueError, match=r"has the classes T-shirt/top, .*, not Ankle boot, "):
        trainer.fit(FashionClassifier(classes=CLASSES[::-1]), datamodule=tiny_data())
