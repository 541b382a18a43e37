import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Run
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning import load_classifier
from fmnist_lightning.data.dataset import read_dataset
from fmnist_lightning.data.download import raw_folder
from fmnist_lightning.shifts import accuracy_by_shift, shift

Fit = Callable[..., Path]


def test_shift() -> None:
    images = torch.arange(1, 10).view(1, 3, 3)
    assert shift(images, 1, 0).tolist() == [[[0, 0, 0], [1, 2, 3], [4, 5, 6]]]
    assert shift(images, 0, -2).tolist() == [[[3, 0, 0], [6, 0, 0], [9, 0, 0]]]
    assert torch.equal(shift(images, 0, 0), images)


def test_accuracy_by_shift(fit: Fit, data_dir: Path) -> None:
    fit("--trainer.max_epochs", "4")
    classifier = load_classifier("best.ckpt")
    dataset = read_dataset(raw_folder(data_dir), train=False)
    found = accuracy_by_shift(classifier, dataset, 4)
    with torch.no_grad():
        for name, (down, right) in {"up": (-1, 0), "right": (0, 1)}.items():
            for by in (0, 4):
                moved = dataset.images.roll((down * by, right * by), dims=(1, 2))
                if down:
                    moved[:, -by or 28 :] = 0
                else:
                    moved[:, :, :by] = 0
                share = (classifier(moved).argmax(1) == dataset.labels).float().mean()
                assert found[name][by] == pytest.approx(float(share))
    assert found["left"][0] == found["down"][0]


def test_several_checkpoints_in_one_chart(fit: Fit, run: Run) -> None:
    first, second, third = fit(), fit("--model.network", "fmnist_lightning.MLP"), fit()
    paths = [str(folder / "checkpoints" / "best.ckpt") for folder in (first, second, third)]
    code, out, err = run("shifts", "--ckpt_path", *paths, "--largest", "2")
    assert code == 0, err
    table = out.splitlines()
    assert [name.strip() for name in table[0].split("  ") if name.strip()] == [
        *("pixels", f"ArticleCNN ({paths[0]})", "MLP", f"ArticleCNN ({paths[2]})")
    ]
    folder = Path(out.splitlines()[-1].removeprefix("table, chart and TensorBoard log: "))
    with (folder / "shifts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 4
    mean = sum(float(row["1"]) for row in rows[4:8]) / 4
    assert rows[4]["network"] == "MLP"
    assert f"{mean:.2%}" in table[2]
    with Image.open(folder / "shifts.png") as chart:
        assert chart.size == (720, 490 + 3 * 26)
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Tags()["images"] == ["accuracy by shift"]
    scalars = events.Scalars("accuracy by shift/MLP")
    assert [scalar.step for scalar in scalars] == [0, 1, 2]
    assert scalars[1].value == pytest.approx(mean)
    assert (
        run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")[0] == 0
    )  # not taken for a run


def test_mistakes_get_one_line(fit: Fit, run: Run) -> None:
    fit()
    for args, message in (
        (("--ckpt_path", "gone.ckpt"), "there is no checkpoint file gone.ckpt"),
        (("--ckpt_path", "best.ckpt", "--largest", "28"), "must be 0 to 27 pixels, not 28"),
        (("--ckpt_path", "best.ckpt", "--largest", "x"), "--largest: invalid int value: 'x'"),
    ):
        code, _, err = run("shifts", *args)
        assert code in (1, 2)
        assert message in err
        assert "Traceback" not in err
