import csv
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
    fit("--trainer.max_epochs", "4")
    classifier = load_classifier("best.ckpt")
    dataset = read_dataset(raw_folder(data_dir), train=False)
    monkeypatch.setattr(translation, "MAX_SHIFT", 4)
    accuracies = translation.measure(classifier, dataset)
    with torch.no_grad():
        for name, (rows, columns) in {"up": (-1, 0), "right": (0, 1)}.items():
            for by in (0, 4):
                shifted = dataset.images.roll((rows * by, columns * by), dims=(1, 2))
                if rows:
                    shifted[:, -by or 28 :] = 0
                else:
                    shifted[:, :, :by] = 0
                accuracy = (classifier(shifted).argmax(1) == dataset.labels).float().mean()
                assert accuracies[name][by] == pytest.approx(float(accuracy))
    assert accuracies["left"][0] == accuracies["down"][0]


def test_several_checkpoints_are_written_to_one_table(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fit("--model.network", "fmnist_lightning.MLP")
    mlp = Path("best.ckpt").resolve().rename(tmp_path / "mlp.ckpt")
    fit()
    page = tmp_path / "page.md"
    page.write_text(translation.SECTION.page.read_text())
    monkeypatch.setattr(translation, "SECTION", translation.SECTION._replace(page=page))
    monkeypatch.setattr(translation, "SAVED", tmp_path / "t.csv")
    monkeypatch.setattr(translation, "MAX_SHIFT", 2)
    monkeypatch.setattr(sys, "argv", ["translation.py", "--ckpt_path", str(mlp), "best.ckpt"])
    translation.main()
    lines = translation.SECTION.read().splitlines()
    assert lines[0] == "| pixels | mlp | best |"
    with Path("t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["network"] for row in rows] == ["mlp"] * 4 + ["best"] * 4
    mean = sum(float(row["1"]) for row in rows[:4]) / 4
    assert lines[3].split(" | ")[1] == f"{100 * mean:.2f}"
