import re
from pathlib import Path

import pytest
import torch
from comparing import curves
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from samples import DarkAndBright
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lightning import FashionClassifier, create_trainer, figures
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.reports import EvaluationFigures, RunTensorBoardLogger, TensorBoardSetup
from fmnist_lightning.runs.checkpoint import read_checkpoint


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def test_curves_and_charts_of_several(fit):
    folder = fit()
    steps = {tag: [step for step, _ in points] for tag, points in curves(folder).items()}
    tags = ["train/loss", "train/acc", "val/loss", "val/acc", "val/ece"]
    tags += [f"val_{name}/{label}" for name in ("precision", "recall") for label in CLASSES]
    each_epoch = {tag: [9, 19] for tag in tags}  # two epochs of ten steps
    assert steps == each_epoch | {"train/loss_step": [4, 9, 14, 19], "lr": [4, 9, 14, 19]}

    content = read(folder).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    charts = {
        chart.title: [
            tag
            for tag in sorted(steps)
            if any(re.match(pattern, tag) for pattern in chart.multiline.tag)
        ]
        for category in layout_pb2.Layout.FromString(content).category
        for chart in category.chart
    }
    assert charts == {
        "loss": ["train/loss", "val/loss"],
        "accuracy": ["train/acc", "val/acc"],
    }


def test_captions_of_training_images_are_the_classes_of_the_data(monkeypatch):
    """The network may have them in another order."""
    shown = []

    def plot(images, captions, title):
        shown.extend(captions)
        return Figure()

    monkeypatch.setattr(figures, "plot_image_grid", plot)
    trainer = create_trainer(max_steps=1, limit_val_batches=0, accelerator="cpu")
    data = DarkAndBright()
    trainer.fit(FashionClassifier(classes=("bright", "dark")), datamodule=data)
    assert shown == [data.classes[label] for label in data.train_dataset.labels[:20]]


def session(folder):
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
    names = [info.name for info in experiment.experiment.hparam_infos]
    assert sorted(names)[:4] == ["epochs", "lr", "network", "optimizer"]  # the first columns
    return values, {info.name.tag for info in experiment.experiment.metric_infos}


def test_hyperparameters_next_to_the_final_metrics(fit, run):
    folder = fit("--model.optimizer.lr", "0.05", "--model.optimizer.betas", "[0.8,0.9]")
    values, metrics = session(folder)
    assert values["lr"] == pytest.approx(0.05)
    assert values["settings/betas"] == "[0.8, 0.9]"
    assert values["network"].startswith("ArticleCNN(")
    assert values["settings/augmentation"] == "none"
    assert values["optimizer"] == "AdamW"
    assert (values["settings/batch_size"], values["settings/train_size"]) == (50, 480)
    assert values["epochs"] == 2
    assert values["settings/precision"] == "32-true"
    assert values["settings/seed"] == 0
    assert "settings/maximize" not in values
    assert metrics == {
        f"{stage}/{name}" for stage in ("val", "test") for name in ("loss", "acc", "ece")
    }
    # Their values come from the curves, and those of the test from the test.
    run("test", "--ckpt_path", "best.ckpt")
    points = curves(folder)
    assert metrics <= points.keys()
    best = read_checkpoint("best.ckpt")["global_step"] - 1  # where its epoch's curves are
    assert [step for step, _ in points["test/acc"]] == [best]


class OwnData(LightningDataModule):
    """A data module that has none of the attributes of this package's own."""

    def train_dataloader(self):
        images = torch.randint(0, 256, (8, 28, 28), dtype=torch.uint8)
        return DataLoader(TensorDataset(images, torch.arange(8)), batch_size=4)

    val_dataloader = train_dataloader


def test_other_data_modules_and_loggers(tmp_path):
    classifier = FashionClassifier(classes=["Süß", "靴", *"abcdefgh"])
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=[RunTensorBoardLogger(tmp_path / "run"), CSVLogger(tmp_path)],
        callbacks=[TensorBoardSetup(), EvaluationFigures()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(classifier, datamodule=OwnData())
    assert classifier.training
    tags = read(tmp_path / "run").Tags()
    assert {"val_recall/Süß", "val_precision/靴"} <= set(tags["scalars"])
    assert "val/confusion matrix" in tags["images"]
    assert "training images" not in tags["images"]
    assert not {"batch_size", "seed"} & session(tmp_path / "run")[0].keys()


def test_log_stays_in_its_folder_when_the_current_folder_changes(tmp_path, monkeypatch):
    logger = RunTensorBoardLogger(Path("run"))
    logger.log_metrics({"a": 1.0}, 0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    logger.log_metrics({"a": 2.0}, 1)
    logger.experiment.close()
    assert [value for _, value in curves(tmp_path / "run")["a"]] == [1.0, 2.0]
