import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from fmnist_lightning.checkpoints import read_checkpoint

Fit = Callable[..., Path]


def read(folder: Path) -> Any:
    events = EventAccumulator(str(folder))
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
    assert events.Scalars("test/acc")[0].step == read_checkpoint("best.ckpt")["global_step"]
