import torch

from fmnist_lightning.training.callbacks import compute_summary, format_metrics


def test_summary_of_an_evaluation() -> None:
    confusion = torch.diag(torch.tensor([3] * 9 + [0]))
    confusion[0, 6] = 1  # a T-shirt taken for a shirt
    figures = compute_summary(torch.tensor(0.25), confusion, torch.tensor(0.0125))
    assert figures["loss"] == 0.25
    assert (figures["correct"], figures["total"]) == (27, 28)
    assert figures["accuracy"] == 27 / 28
    assert figures["classes"]["T-shirt/top"] == {"correct": 3, "total": 4}
    assert figures["classes"]["Ankle boot"] == {"correct": 0, "total": 0}

    table = format_metrics("test", figures).splitlines()
    assert table[:4] == [
        "test loss 0.2500",
        "test accuracy 96.43 % (27/28)",
        "test calibration error 1.25 %",
        "  T-shirt/top   75.00 % (3/4)",
    ]
    assert table[-1] == "  Ankle boot        -  (0/0)"
