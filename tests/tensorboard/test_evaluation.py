import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run
from google.protobuf import text_format
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import Tensor

from fmnist_lightning import (
    FashionMNISTDataModule,
    figures,
    load_classifier,
)
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.training.checkpoint import read_checkpoint

Fit = Callable[..., Path]


def read(folder: Path) -> Any:
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return events


TAGS = {"confusion matrix", "reliability diagram", "first-layer filters", "feature maps"}
GRIDS = {"most confident misclassified", "least confident correct"}


def image_steps(folder: Path, stage: str) -> dict[str, list[int]]:
    """The steps at which each image of a stage was written."""
    events = read(folder)
    return {
        tag.partition("/")[2]: [image.step for image in events.Images(tag)]
        for tag in events.Tags()["images"]
        if tag.startswith(f"{stage}/")
    }


def test_charts_are_written_once_for_the_last_validation(fit: Fit) -> None:
    folder = fit("--trainer.max_epochs", "5", "--trainer.check_val_every_n_epoch", "2")
    assert [scalar.step for scalar in read(folder).Scalars("val/acc")] == [19, 39, 49]
    found = image_steps(folder, "val")
    assert TAGS <= found.keys() <= TAGS | GRIDS
    assert all(steps == [49] for steps in found.values())


def test_resumed_run_writes_the_start_once(fit: Fit, run: Run) -> None:
    folder = fit("--model.lr_schedule", "constant")
    code, _, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert code == 0, err
    assert len(read(folder).Images("training images")) == 1
    assert image_steps(folder, "val")["confusion matrix"] == [19, 29]


def test_precision_and_recall_of_each_class(fit: Fit) -> None:
    folder = fit()
    events = read(folder)
    data = FashionMNISTDataModule(train_size=480, val_size=120)
    data.setup("validate")
    classifier = load_classifier(folder / "checkpoints" / "last.ckpt")
    with torch.no_grad():
        predictions = classifier(data.val_dataset.images).argmax(1)
    for index, name in enumerate(CLASSES):
        predicted, is_one = predictions == index, data.val_dataset.labels == index
        correct = int((predicted & is_one).sum())
        recall, precision = (
            events.Scalars(f"val_recall/{name}"),
            events.Scalars(f"val_precision/{name}"),
        )
        assert [point.step for point in recall] == [9, 19]
        assert recall[-1].value == pytest.approx(correct / int(is_one.sum()))
        assert precision[-1].value == pytest.approx(correct / max(int(predicted.sum()), 1))


def test_images_are_misclassified_and_correct_in_order_of_confidence(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: dict[str, tuple[Tensor, list[str]]] = {}

    def record(images: Tensor, captions: list[str], title: str, columns: int = 5) -> Figure:
        grids[title] = images, captions
        return plot_image_grid(images, captions, title, columns)

    plot_image_grid = figures.plot_image_grid
    monkeypatch.setattr(figures, "plot_image_grid", record)
    classifier = load_classifier(fit("--trainer.max_epochs", "1") / "checkpoints" / "last.ckpt")
    assert "Training images" in grids
    for title, sign in (
        ("Most confident misclassified, validation", -1),
        ("Least confident correct, validation", 1),
    ):
        images, captions = grids[title]
        assert len(images) == 10
        with torch.no_grad():
            confidences, predictions = classifier.probabilities(images).max(dim=1)
        assert confidences.tolist() == sorted(confidences.tolist(), key=lambda each: sign * each)
        for confidence, index, caption in zip(confidences, predictions, captions, strict=True):
            first, second = caption.splitlines()
            assert first == f"predicted {CLASSES[index]} {100 * confidence:.1f} %"
            assert (second == f"label {CLASSES[index]}") == (sign == 1)


def test_each_stage_has_a_projector_log_that_a_repeated_test_replaces(fit: Fit, run: Run) -> None:
    folder = fit()
    before = sorted((folder / "projector" / "val").rglob("*"))
    run("test", "--ckpt_path", "best.ckpt")
    run("test", "--ckpt_path", "best.ckpt")
    assert sorted((folder / "projector" / "val").rglob("*")) == before
    for stage, num in (("val", 120), ("test", 105)):
        log = folder / "projector" / stage
        (config,) = log.rglob("projector_config.pbtxt")
        (entry,) = text_format.Parse(config.read_text(), ProjectorConfig()).embeddings
        assert entry.tensor_name.startswith("penultimate-layer embedding")
        rows = (log / entry.tensor_path).read_text().splitlines()
        names = (log / entry.metadata_path).read_text().splitlines()
        assert names[0] == "label\tprediction"
        assert len(rows) == len(names) - 1 == num
        side = math.ceil(num**0.5) * 28
        with Image.open(log / entry.sprite.image_path) as sprite:
            assert sprite.size == (side, side)
    classifier = load_classifier("best.ckpt")
    last = list(classifier.network.modules())[-1]
    points = torch.tensor([[float(each) for each in row.split("\t")] for row in rows])
    with torch.no_grad():
        predictions = [CLASSES[index] for index in last(points).argmax(dim=1)]
    assert [line.partition("\t")[2] for line in names[1:]] == predictions


def test_test_and_validate_write_charts_at_the_step_of_the_checkpoint(fit: Fit, run: Run) -> None:
    folder = fit()
    step = read_checkpoint("best.ckpt")["global_step"] - 1
    run("test", "--ckpt_path", "best.ckpt")
    found = image_steps(folder, "test")
    assert {*TAGS, *GRIDS} >= found.keys() >= TAGS
    assert all(steps == [step] for steps in found.values())
    run("validate", "--ckpt_path", "best.ckpt")
    assert image_steps(folder, "val")["confusion matrix"] == [19, step]


def test_embedding_is_not_written_through_a_link(fit: Fit, run: Run) -> None:
    folder = fit()
    (mine := Path("mine/test")).mkdir(parents=True)
    (mine / "file").write_text("mine")
    shutil.rmtree(folder / "projector")
    (folder / "projector").symlink_to(Path("mine").absolute())
    assert run("test", "--ckpt_path", "best.ckpt")[0] == 0
    assert [path.name for path in mine.iterdir()] == ["file"]
    assert (folder / "projector" / "test" / "projector_config.pbtxt").is_file()


def test_network_without_convolutions_is_logged(fit: Fit) -> None:
    found = image_steps(fit("--model.network", "fmnist_lightning.MLP"), "val")
    assert "confusion matrix" in found
    assert not {"feature maps", "first-layer filters"} & set(found)
