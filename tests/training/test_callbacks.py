import torch

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.training.callbacks import compute_summary, format_metrics


def test_evaluation_summary_has_counts_per_class() -> None:
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
