import io
import re
from pathlib import Path

import pytest
import torch
from comparing import curves
from lightning.pytorch import Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lightning import FashionClassifier, figures, load_classifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.reports import EvaluationFigures, RunTensorBoardLogger
from fmnist_lightning.runs.checkpoint import read_checkpoint


def read(folder):
    return EventAccumulator(str(folder)).Reload()


TAGS = {"confusion matrix", "reliability diagram", "first-layer filters", "feature maps"}
GRIDS = {"most confident misclassified", "least confident correct"}


def image_steps(folder, stage):
    """The steps at which each image of a stage was written."""
    events = read(folder)
    return {
        tag.partition("/")[2]: [image.step for image in events.Images(tag)]
        for tag in events.Tags()["images"]
        if tag.startswith(f"{stage}/")
    }


def test_charts_are_written_at_the_end_of_fit_and_training_images_at_its_start(fit, run):
    every_two = ("--trainer.check_val_every_n_epoch", "2")
    folder = fit("--trainer.max_epochs", "3", *every_two, "--model.lr_schedule", "constant")
    assert [scalar.step for scalar in read(folder).Scalars("val/acc")] == [19, 29]
    steps_by_tag = image_steps(folder, "val")
    assert TAGS | {"recall"} <= steps_by_tag.keys() <= TAGS | GRIDS | {"recall"}
    assert all(steps == [29] for steps in steps_by_tag.values())
    code, _, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert code == 0, err
    assert image_steps(folder, "val")["confusion matrix"] == [29, 39]
    (image,) = read(folder).Images("training images")
    assert len(set(Image.open(io.BytesIO(image.encoded_image_string)).tobytes())) > 50


class BrightnessNetwork(nn.Module):
    """Predicts class 0 for black images, 1 for gray and 2 for white ones, of four."""

    def forward(self, inputs):
        brightness = inputs.mean(dim=(1, 2, 3)) * 2
        return -(brightness[:, None] - torch.arange(4)).square()


def test_precision_and_recall_of_each_class_and_charts_without_convolutions():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 3, 0])
    predictions = torch.tensor([0, 0, 1, 0, 1, 0, 1, 1])
    images = (predictions * 127).to(torch.uint8)[:, None, None].expand(-1, 28, 28)
    trainer = Trainer(
        accelerator="cpu",
        logger=RunTensorBoardLogger(Path("run"), step=7),
        callbacks=EvaluationFigures(),
        enable_progress_bar=False,
    )
    classifier = FashionClassifier(network=BrightnessNetwork, classes=("a", "b", "c", "d"))
    trainer.validate(classifier, DataLoader(TensorDataset(images, labels), 3), verbose=False)
    points = {tag: points for tag, points in curves(Path("run")).items() if re.match("val_", tag)}
    assert all([step for step, _ in curve] == [7] for curve in points.values())
    # c has no images and is never predicted; d is never predicted.
    for name, expected in (("precision", (3 / 4, 1 / 4, 0, 0)), ("recall", (3 / 5, 1 / 2, 0, 0))):
        values = [points[f"val_{name}/{label}"][0][1] for label in "abcd"]
        assert values == pytest.approx(expected)
    steps_by_tag = image_steps(Path("run"), "val")
    assert steps_by_tag["confusion matrix"] == [7]
    assert not {"feature maps", "first-layer filters"} & steps_by_tag.keys()


def test_images_are_misclassified_and_correct_in_order_of_confidence(fit, monkeypatch):
    grids = {}

    def record(images, captions, title, columns=5):
        grids[title] = images, captions
        return plot_image_grid(images, captions, title, columns)

    plot_image_grid = figures.plot_image_grid
    monkeypatch.setattr(figures, "plot_image_grid", record)
    classifier = load_classifier(fit("--trainer.max_epochs", "1") / "checkpoints" / "last.ckpt")
    assert "Training images" in grids
    for title, sign in (
        ("Most confident misclassified, val", -1),
        ("Least confident correct, val", 1),
    ):
        images, captions = grids[title]
        assert len(images) == 10
        with torch.no_grad():
            confidences, predictions = classifier.probabilities(images).max(dim=1)
        assert confidences.tolist() == sorted(confidences.tolist(), key=lambda value: sign * value)
        for confidence, index, caption in zip(confidences, predictions, captions, strict=True):
            first, second = caption.splitlines()
            assert first == f"predicted {CLASSES[index]} {100 * confidence:.1f} %"
            assert (second == f"label {CLASSES[index]}") == (sign == 1)


def test_test_and_validate_write_charts_at_the_step_of_the_checkpoint(fit, run):
    folder = fit()
    step = read_checkpoint("best.ckpt")["global_step"] - 1
    run("test", "--ckpt_path", "best.ckpt")
    steps_by_tag = image_steps(folder, "test")
    assert {*TAGS, *GRIDS} >= steps_by_tag.keys() >= TAGS
    assert all(steps == [step] for steps in steps_by_tag.values())
    run("validate", "--ckpt_path", "best.ckpt")
    assert image_steps(folder, "val")["confusion matrix"] == [19, step]
