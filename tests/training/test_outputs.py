import csv
import json
from pathlib import Path

import pytest
import torch
from conftest import tiny_labels
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lightning import FashionClassifier, create_trainer
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.training.outputs import PredictionWriter, compute_summary, format_metrics

UNTRAINED = ("--model.optimizer.lr", "0.0001")  # many predictions are wrong


def read_rows(folder):
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_predict_writes_labels_predictions_and_probabilities(fit, run):
    folder = fit(*UNTRAINED)
    code, out, _ = run("predict", "--ckpt_path", "best.ckpt")
    assert code == 0
    assert f"105 predictions written to {folder}/predictions.csv" in out
    rows = read_rows(folder)
    assert list(rows[0]) == ["index", "label", "prediction", *CLASSES]
    assert [int(row["index"]) for row in rows] == list(range(105))
    assert [row["label"] for row in rows] == [CLASSES[label] for label in tiny_labels(105)]
    for row in rows:
        probabilities = [float(row[name]) for name in CLASSES]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert row["prediction"] == CLASSES[probabilities.index(max(probabilities))]
    num_correct = sum(row["prediction"] == row["label"] for row in rows)
    assert num_correct < 100
    run("test", "--ckpt_path", "best.ckpt")
    assert num_correct == json.loads((folder / "test.json").read_text())["correct"]


def test_predict_index_shows_one_test_image(fit, run):
    folder = fit(*UNTRAINED)
    run("predict", "--ckpt_path", "best.ckpt")
    row = next(row for row in read_rows(folder)[60:] if row["prediction"] != row["label"])
    index, predicted, label = row["index"], row["prediction"], row["label"]
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--index", index)
    assert code == 0, err
    confidence = 100 * float(row[predicted])
    assert f"test image {index}: predicted {predicted} {confidence:.1f} %, label {label}\n" in out
    with Image.open(folder / f"image-{index}.png") as chart:
        assert chart.width > chart.height
    _, _, err = run("predict", "--ckpt_path", "best.ckpt", "--index", "105")
    assert err == "error: --index must be 0 to 104, not 105\n"


def test_fast_dev_run_writes_no_predictions(fit, run):
    folder = fit()
    code, out, err = run(
        "predict", "--ckpt_path", "best.ckpt", "--index", "3", "--trainer.fast_dev_run", "1"
    )
    assert code == 0, err
    assert "test image 3: predicted" in out
    assert "written" not in out
    assert not list(folder.glob("*.csv")) + list(folder.glob("*.png"))


def test_evaluation_summary_has_counts_per_class():
    confusion = torch.diag(torch.tensor([3] * 9 + [0]))
    confusion[0, 6] = 1  # a T-shirt predicted as a shirt
    summary = compute_summary(
        {"loss": torch.tensor(0.25), "confusion": confusion, "ece": torch.tensor(0.0125)}, CLASSES
    )
    assert summary["loss"] == 0.25
    assert (summary["correct"], summary["total"]) == (27, 28)
    assert summary["accuracy"] == 27 / 28
    assert summary["classes"]["T-shirt/top"] == {"correct": 3, "total": 4}
    assert summary["classes"]["Ankle boot"] == {"correct": 0, "total": 0}

    table = format_metrics("test", summary).splitlines()
    assert table[:4] == [
        "test loss 0.2500",
        "test accuracy 96.43 % (27/28)",
        "test calibration error 1.25 %",
        "  T-shirt/top   75.00 % (3/4)",
    ]
    assert table[-1] == "  Ankle boot        -  (0/0)"


def test_images_without_labels_are_predicted(capsys):
    trainer = create_trainer(logger=False)
    trainer.callbacks.append(PredictionWriter(Path(), index=1))
    images = torch.zeros(3, 28, 28, dtype=torch.uint8)
    trainer.predict(FashionClassifier(), DataLoader(TensorDataset(images), batch_size=2))
    assert [row["label"] for row in read_rows(Path())] == ["", "", ""]
    title = next(line for line in capsys.readouterr().out.splitlines() if "test image 1" in line)
    assert title.endswith(" %")  # and no label
