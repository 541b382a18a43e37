import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import translation

from fmnist_lightning import load_classifier
from fmnist_lightning.data.dataset import read_dataset
from fmnist_lightning.data.download import raw_folder

Fit = Callable[..., Path]


def test_translate_shifts_with_zero_padding() -> None:
    images = torch.arange(1, 10).view(1, 3, 3)
    assert translation.translate(images, 1, 0).tolist() == [[[0, 0, 0], [1, 2, 3], [4, 5, 6]]]
    assert translation.translate(images, 0, -2).tolist() == [[[3, 0, 0], [6, 0, 0], [9, 0, 0]]]
    assert torch.equal(translation.translate(images, 0, 0), images)


def test_accuracies_are_those_of_shifted_images(
    fit: Fit, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit()
    classifier = load_classifier("best.ckpt")
    dataset = read_dataset(raw_folder(data_dir), train=False)
    monkeypatch.setattr(translation, "MAX_SHIFT", 2)
    accuracies = translation.measure(classifier, dataset)
    shifted = dataset.images.roll(2, dims=2)
    shifted[:, :, :2] = 0
    with torch.no_grad():
        accuracy = (classifier(shifted).argmax(1) == dataset.labels).float().mean()
    assert accuracies["right"][2] == pytest.approx(float(accuracy))
    assert accuracies["left"][0] == accuracies["down"][0]


def test_several_checkpoints_are_written_to_one_table(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fit("--trainer.max_epochs", "1")
    mlp = shutil.copy("best.ckpt", "mlp.ckpt")
    page = tmp_path / "page.md"
    page.write_text(translation.SECTION.page.read_text())
    monkeypatch.setattr(translation, "SECTION", translation.SECTION._replace(page=page))
    monkeypatch.setattr(translation, "SAVED", tmp_path / "t.csv")
    monkeypatch.setattr(translation, "MAX_SHIFT", 2)
    monkeypatch.setattr(sys, "argv", ["translation.py", "--ckpt_path", mlp, "best.ckpt"])
    translation.main()
    lines = translation.SECTION.read().splitlines()
    assert lines[0] == "| pixels | mlp | best |"
    with Path("t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["network"] for row in rows] == ["mlp"] * 4 + ["best"] * 4
    mean = sum(float(row["1"]) for row in rows[:4]) / 4
    assert lines[3].split(" | ")[1] == f"{100 * mean:.2f}"
