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


def test_translation_table_is_that_of_the_saved_accuracies() -> None:
    means = translation.load_means()
    assert translation.MARKS.find(translation.PAGE) == translation.table(means)
    assert translation.table(means).splitlines()[2] == "| 0 | 88.37 | 89.37 | 82.90 |"


def test_translate_shifts_with_zero_padding() -> None:
    images = torch.arange(1, 10).view(1, 3, 3)
    assert translation.translate(images, 1, 0).tolist() == [[[0, 0, 0], [1, 2, 3], [4, 5, 6]]]
    assert translation.translate(images, 0, -2).tolist() == [[[3, 0, 0], [6, 0, 0], [9, 0, 0]]]
    assert torch.equal(translation.translate(images, 0, 0), images)


def test_accuracies_are_those_of_shifted_images(fit: Fit, data_dir: Path) -> None:
    fit("--trainer.max_epochs", "4")
    classifier = load_classifier("best.ckpt")
    dataset = read_dataset(raw_folder(data_dir), train=False)
    found = translation.measure(classifier, dataset, 4)
    with torch.no_grad():
        for name, (rows, columns) in {"up": (-1, 0), "right": (0, 1)}.items():
            for by in (0, 4):
                shifted = dataset.images.roll((rows * by, columns * by), dims=(1, 2))
                if rows:
                    shifted[:, -by or 28 :] = 0
                else:
                    shifted[:, :, :by] = 0
                accuracy = (classifier(shifted).argmax(1) == dataset.labels).float().mean()
                assert found[name][by] == pytest.approx(float(accuracy))
    assert found["left"][0] == found["down"][0]


def test_several_checkpoints_are_written_to_one_table_and_chart(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = fit(), fit("--model.network", "fmnist_lightning.MLP"), fit()
    paths = [str(folder / "checkpoints" / "best.ckpt") for folder in folders]
    page = tmp_path / "page.md"
    page.write_text("".join(translation.MARKS))
    for name, path in (("SAVED", "t.csv"), ("CHART", "t.png"), ("PAGE", "page.md")):
        monkeypatch.setattr(translation, name, tmp_path / path)
    monkeypatch.setattr(sys, "argv", ["translation.py", "--ckpt_path", *paths, "--max-shift", "2"])
    translation.main()
    names = [f"ArticleCNN ({paths[0]})", "MLP", f"ArticleCNN ({paths[2]})"]
    lines = translation.MARKS.find(page).splitlines()
    assert lines[0] == f"| pixels | {' | '.join(names)} |"
    with Path("t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["network"] for row in rows] == [name for name in names for _ in range(4)]
    mean = sum(float(row["1"]) for row in rows[4:8]) / 4
    assert lines[3].split(" | ")[2] == f"{100 * mean:.2f}"
    assert Path("t.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --ckpt_path or --table"),
        (["--ckpt_path", "best.ckpt", "--max-shift", "28"], "must be 0 to 27 pixels, not 28"),
    ],
)
def test_wrong_options_are_an_error(
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["translation.py", *options])
    with pytest.raises(SystemExit, match="2"):
        translation.main()
    assert message in capsys.readouterr().err
