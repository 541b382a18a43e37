import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import curves
from conftest import Run
from google.protobuf import text_format
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lightning import (
    FashionClassifier,
    FashionMNISTDataModule,
    figures,
    load_classifier,
)
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.tensorboard import (
    FixedStepTensorBoardLogger,
    TensorBoardEvaluation,
    TensorBoardSetup,
)
from fmnist_lightning.training.checkpoint import read_checkpoint

Fit = Callable[..., Path]


def read(folder: Path) -> Any:
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return events


def test_curves(fit: Fit) -> None:
    events = read(fit())
    for tag in ("train/loss", "train/acc", "val/loss", "val/acc"):
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == [9, 19]  # two epochs of ten steps
    assert [scalar.step for scalar in events.Scalars("train/loss_step")] == [4, 9, 14, 19]
    rates = [scalar.value for scalar in events.Scalars("lr")]
    assert len(rates) == 4
    assert max(rates) <= 0.01
    assert rates[-1] < rates[1]
    assert not {"hp_metric", "epoch"} & set(events.Tags()["scalars"])


def test_training_and_validation_share_a_chart(fit: Fit) -> None:
    events = read(fit())
    content = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    layout = layout_pb2.Layout.FromString(content)
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    shown = {
        title: [tag for tag in events.Tags()["scalars"] if any(re.match(p, tag) for p in patterns)]
        for title, patterns in charts.items()
    }
    assert {title: sorted(tags) for title, tags in shown.items()} == {
        "loss": ["train/loss", "val/loss"],
        "accuracy": ["train/acc", "val/acc"],
    }


def test_training_images(fit: Fit) -> None:
    (image,) = read(fit()).Images("training images")
    assert image.width == 792
    assert len(set(Image.open(io.BytesIO(image.encoded_image_string)).tobytes())) > 50


def test_the_config_as_text(fit: Fit) -> None:
    folder = fit("--data.split_seed", "77")
    text = read(folder).Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    for line in (folder / "config.yaml").read_text().splitlines():
        assert f"    {line}" in text
    assert "split_seed: 77" in text


def session(folder: Path) -> tuple[dict[str, Any], set[str]]:
    """The hyperparameters of a run, and the names of the metrics to show next to them."""
    metadata = read(folder).summary_metadata
    start, experiment = (
        plugin_data_pb2.HParamsPluginData.FromString(
            metadata[f"_hparams_/{name}"].plugin_data.content
        )
        for name in ("session_start_info", "experiment")
    )
    values = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in start.session_start_info.hparams.items()
    }
    return values, {info.name.tag for info in experiment.experiment.metric_infos}


def test_hyperparameters_next_to_the_final_metrics(fit: Fit, run: Run) -> None:
    folder = fit("--model.optimizer.lr", "0.05")
    values, metrics = session(folder)
    assert values["lr"] == pytest.approx(0.05)
    assert values["network"].startswith("ArticleCNN(")
    assert values["augmentation"] == "none"
    assert values["optimizer"] == "AdamW"
    assert (values["batch_size"], values["train_size"], values["max_epochs"]) == (50, 480, 2)
    assert values["precision"] == "32-true"
    assert values["seed"] == 0
    assert "maximize" not in values
    assert metrics == {
        f"{stage}/{name}" for stage in ("val", "test") for name in ("loss", "acc", "ece")
    }
    # Their values come from the curves, and those of the test from the test.
    assert not {"test/loss", "test/acc", "test/ece"} & set(read(folder).Tags()["scalars"])
    run("test", "--ckpt_path", "best.ckpt")
    events = read(folder)
    assert metrics <= set(events.Tags()["scalars"])
    (best,) = {event.step for event in events.Scalars("test/acc")}
    assert best == read_checkpoint("best.ckpt")["global_step"] - 1  # where its epoch's curves are


class OwnData(LightningDataModule):
    """A data module that has none of the attributes of this package's own."""

    def train_dataloader(self) -> Any:
        images = torch.randint(0, 256, (8, 28, 28), dtype=torch.uint8)
        return DataLoader(TensorDataset(images, torch.arange(8)), batch_size=4)

    val_dataloader = train_dataloader


@pytest.mark.parametrize("logger", [True, False], ids=["CSV and TensorBoard", "none"])
def test_other_data_modules_and_loggers(
    logger: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = FashionClassifier(classes=["Süß", "靴", *"abcdefgh"])
    loggers = [CSVLogger(tmp_path), FixedStepTensorBoardLogger(tmp_path / "run")]
    if not logger:
        monkeypatch.setattr(figures, "plot_confusion_matrix", None)  # would raise
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=loggers if logger else False,
        callbacks=[TensorBoardSetup(), TensorBoardEvaluation()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(classifier, datamodule=OwnData())
    assert classifier.training
    if logger:
        found = read(tmp_path / "run").Tags()
        assert {"val_recall/Süß", "val_precision/靴"} <= set(found["scalars"])
        assert "val/confusion matrix" in found["images"]
        assert "training images" not in found["images"]
        assert not {"batch_size", "seed"} & session(tmp_path / "run")[0].keys()


# ---- evaluations -------------------------------------------------------------------------------

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
    assert [scalar.step for scalar in read(folder).Scalars("val/acc")] == [19, 39]
    found = image_steps(folder, "val")
    assert TAGS <= found.keys() <= TAGS | GRIDS
    assert all(steps == [39] for steps in found.values())


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


def test_a_network_without_convolutions(fit: Fit) -> None:
    found = image_steps(fit("--model.network", "fmnist_lightning.MLP"), "val")
    assert "confusion matrix" in found
    assert not {"feature maps", "first-layer filters"} & set(found)


def test_log_stays_in_its_folder_when_the_current_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = FixedStepTensorBoardLogger(Path("run"))
    logger.log_metrics({"a": 1.0}, 0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    logger.log_metrics({"a": 2.0}, 1)
    logger.experiment.close()
    assert [value for _, value in curves(tmp_path / "run")["a"]] == [1.0, 2.0]
