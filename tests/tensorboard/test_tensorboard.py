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
from fmnist_lightning.tensorboard.callback import FixedStepTensorBoardLogger
from fmnist_lightning.tensorboard.grids import make_image_grid
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import Tensor

from fmnist_lightning import FashionMNISTDataModule, load_classifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.tensorboard import evaluation as insight
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


def test_training_pictures(fit: Fit) -> None:
    events = read(fit())
    image = Image.open(io.BytesIO(events.Images("training pictures")[0].encoded_image_string))
    assert image.size == (468, 464)  # five columns, four rows
    assert len(set(image.tobytes())) > 50


def test_the_config_as_text(fit: Fit) -> None:
    folder = fit("--data.split_seed", "77")
    text = read(folder).Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    for line in (folder / "config.yaml").read_text().splitlines():
        assert f"    {line}" in text
    assert "split_seed: 77" in text


def session(folder: Path) -> tuple[dict[str, Any], set[str]]:
    """The hyperparameters of a run, and the names of the figures to show beside them."""
    metadata = read(folder).summary_metadata
    start = plugin_data_pb2.HParamsPluginData.FromString(
        metadata["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    experiment = plugin_data_pb2.HParamsPluginData.FromString(
        metadata["_hparams_/experiment"].plugin_data.content
    ).experiment
    values = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
    }
    return values, {info.name.tag for info in experiment.metric_infos}


def test_hyperparameters_beside_the_final_figures(fit: Fit, run: Run) -> None:
    folder = fit("--model.optimizer.lr", "0.05")
    values, figures = session(folder)
    assert values["lr"] == pytest.approx(0.05)
    assert values["network"] == "ArticleCNN(sigmoid=False)"
    assert values["optimizer"] == "AdamW"
    assert values["batch_size"] == 50
    assert values["max_epochs"] == 2
    assert values["seed"] == 0
    assert "maximize" not in values
    assert figures == {
        f"{stage}/{kind}" for stage in ("val", "test") for kind in ("loss", "acc", "ece")
    }
    # Their values come from the curves, and those of the test from the test.
    assert not {"test/loss", "test/acc", "test/ece"} & set(read(folder).Tags()["scalars"])
    run("test", "--ckpt_path", "best.ckpt")
    events = read(folder)
    assert figures <= set(events.Tags()["scalars"])
    (best,) = {event.step for event in events.Scalars("test/acc")}
    assert best == read_checkpoint("best.ckpt")["global_step"] - 1  # where its epoch's curves are


# ---- what an evaluation tells ------------------------------------------------------------------

IMAGES = {
    "confusion": (916, 502),
    "reliability": (560, 566),
    "filters of the first layer": (6 * 64 + 8, 86 + 8),
    "feature maps": (10 * 64 + 8, 5 * 86 + 8),
}


def images(events: Any, stage: str) -> dict[str, list[int]]:
    """The steps at which each picture of a stage was written."""
    return {
        tag.partition("/")[2]: [image.step for image in events.Images(tag)]
        for tag in events.Tags()["images"]
        if tag.startswith(f"{stage}/")
    }


def test_pictures_are_written_ever_more_rarely_and_at_the_end(fit: Fit) -> None:
    events = read(fit("--trainer.max_epochs", "6"))
    found = images(events, "val")
    assert set(IMAGES) <= set(found)
    for tag in IMAGES:
        assert found[tag] == [9, 19, 39, 59]  # of the 1st, 2nd, 4th, and the last epoch
    for tag, size in IMAGES.items():
        (*_, last) = events.Images(f"val/{tag}")
        assert Image.open(io.BytesIO(last.encoded_image_string)).size == size


def test_the_last_pictures_are_at_the_last_validation(fit: Fit) -> None:
    events = read(fit("--trainer.max_epochs", "7", "--trainer.check_val_every_n_epoch", "2"))
    assert [scalar.step for scalar in events.Scalars("val/acc")] == [19, 39, 59]
    assert images(events, "val")["confusion"] == [19, 39, 59]


def test_figures_of_each_class(fit: Fit) -> None:
    folder = fit()
    events = read(folder)
    data = FashionMNISTDataModule(train_size=480, val_size=120)
    data.setup("validate")
    with torch.no_grad():
        answers = load_classifier(folder / "checkpoints" / "last.ckpt")(
            data.val_dataset.images
        ).argmax(1)
    for number, name in enumerate(CLASSES):
        answered, is_one = answers == number, data.val_dataset.labels == number
        hits = int((answered & is_one).sum())
        recall, precision = (
            events.Scalars(f"val_{kind}/{name}")[-1].value for kind in ("recall", "precision")
        )
        assert recall == pytest.approx(hits / int(is_one.sum()))
        assert precision == pytest.approx(hits / max(int(answered.sum()), 1))
    table = events.Tensors("val/classes/text_summary")[-1].tensor_proto.string_val[0].decode()
    right = float((answered == is_one).float().mean())  # the last of the classes
    assert f"| {name} | {100 * precision:.2f} | {100 * recall:.2f} | {100 * right:.2f} |" in table


def test_the_mistakes_are_mistakes_and_the_hits_hits(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: list[tuple[Tensor, list[str]]] = []

    def keep(images: Tensor, captions: list[str], columns: int) -> Tensor:
        grids.append((images, captions))
        return make_image_grid(images, captions, columns)

    monkeypatch.setattr(insight, "make_image_grid", keep)
    folder = fit("--trainer.max_epochs", "1")
    (wrong, wrong_captions), (right, right_captions) = grids
    classifier = load_classifier(folder / "checkpoints" / "last.ckpt")
    assert len(wrong) == len(right) == 20
    for pictures, captions, sign in ((wrong, wrong_captions, -1), (right, right_captions, 1)):
        answers = classifier.predict(pictures)
        chances = [answer.probability for answer in answers]
        assert chances == sorted(chances, key=lambda chance: sign * chance)
        for answer, caption in zip(answers, captions, strict=True):
            first, _, second = caption.partition("\n")
            assert first == f"{answer.label} {answer.probability:.1%}"
            assert (second != "") == (sign == -1)
            assert second != f"is {answer.label}"


def test_the_embedding_of_validation_and_test_pictures(fit: Fit, run: Run) -> None:
    folder = fit()
    run("test", "--ckpt_path", "best.ckpt")
    run("test", "--ckpt_path", "best.ckpt")  # again: in place of the first
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    entries = {entry.tensor_name.partition(":")[0]: entry for entry in config.embeddings}
    assert set(entries) == {"val pictures", "test pictures"}
    assert len(config.embeddings) == 2
    for stage, num in (("val", 120), ("test", 105)):
        entry = entries[f"{stage} pictures"]
        rows = (folder / entry.tensor_path).read_text().splitlines()
        names = (folder / entry.metadata_path).read_text().splitlines()
        assert len(rows) == num
        assert names[0] == "label\tanswer"
        assert len(names) == num + 1
        side = math.ceil(num**0.5) * 28
        with Image.open(folder / entry.sprite.image_path) as sprite:
            assert sprite.size == (side, side)
    classifier = load_classifier("best.ckpt")
    last = list(classifier.network.modules())[-1]
    points = torch.tensor([[float(each) for each in row.split("\t")] for row in rows])
    with torch.no_grad():
        answers = [CLASSES[number] for number in last(points).argmax(dim=1)]
    assert [line.partition("\t")[2] for line in names[1:]] == answers


def test_the_same_after_test_and_validate(fit: Fit, run: Run) -> None:
    folder = fit()
    run("test", "--ckpt_path", "best.ckpt")
    step = read_checkpoint("best.ckpt")["global_step"] - 1
    found = images(read(folder), "test")
    assert {*IMAGES, "least sure hits"} <= set(found)
    assert all(steps == [step] for steps in found.values())
    before = len(images(read(folder), "val")["confusion"])
    run("validate", "--ckpt_path", "best.ckpt")
    assert len(images(read(folder), "val")["confusion"]) == before + 1


def test_a_network_without_convolutions(fit: Fit, run: Run) -> None:
    folder = fit("--model.network", "fmnist_lightning.MLP")
    found = images(read(folder), "val")
    assert "confusion" in found
    assert not {"feature maps", "filters of the first layer"} & set(found)


def test_a_resumed_run_goes_on_counting(fit: Fit, run: Run) -> None:
    folder = fit("--model.lr_schedule", "constant", "--trainer.max_epochs", "3")
    code, _, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "5")
    assert code == 0, err
    assert images(read(folder), "val")["confusion"] == [9, 19, 29, 39, 49]  # 3rd and 5th: ends
    assert len(read(folder).Images("training pictures")) == 1  # what is written at the start, once


def test_nothing_is_drawn_without_a_log(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insight, "plot_confusion_matrix", None)  # would raise
    folder = fit("--trainer.logger", "false")
    assert not (folder / "projector_config.pbtxt").exists()


def test_the_log_stays_in_its_folder_where_the_current_one_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = FixedStepTensorBoardLogger(Path("run"))
    logger.log_metrics({"a": 1.0}, 0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    logger.log_metrics({"a": 2.0}, 1)
    logger.experiment.close()
    assert [value for _, value in curves(tmp_path / "run")["a"]] == [1.0, 2.0]
