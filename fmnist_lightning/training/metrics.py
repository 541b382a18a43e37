"""Loss, accuracy and calibration over the images of an epoch. Plain torchmetrics."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)

BUFFER_SIZE = 100  # batches


def cross_entropy(logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """That of PyTorch, with a ValueError that names the range of wrong labels (on CPUs).

    Labels are classes, int64, shape (N,), or their probabilities, float, shape (N, C).
    """
    try:
        return F.cross_entropy(logits, labels, reduction=reduction)
    except IndexError as error:
        num = logits.shape[1]
        raise ValueError(
            f"labels must be 0 to {num - 1} for {num} classes, not {labels.min()} to {labels.max()}"
        ) from error


class ClassificationMetrics(nn.Module):
    """The metrics of one stage. Every image of an epoch counts once.

    Updates are applied for many batches at a time: one per batch would cost a small network a
    twentieth of its step.

    Args:
        num_classes: Number of classes C.
        evaluation: Whether to have ``confusion`` and ``ece`` in addition to ``loss`` and ``acc``.
    """

    def __init__(self, num_classes: int, evaluation: bool = True) -> None:
        super().__init__()
        metrics: dict[str, Metric] = {
            # The default replaces NaN, for which a GPU has to wait.
            "loss": MeanMetric(nan_strategy="disable"),
            # `micro` counts every image once; the default is the mean over the classes.
            "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        }
        if evaluation:
            metrics["confusion"] = MulticlassConfusionMatrix(num_classes, validate_args=False)
            # Expected calibration error, 15 bins: how far confidence is from accuracy
            # (https://arxiv.org/abs/1706.04599).
            metrics["ece"] = MulticlassCalibrationError(num_classes, n_bins=15, validate_args=False)
        self.metrics: Any = nn.ModuleDict(metrics)
        self.buffer: list[tuple[Tensor, Tensor]] = []

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits, shape (N, C), and labels, int64, shape (N,)."""
        # A clone: each tensor that comes from a worker process keeps a file open.
        self.buffer.append((logits.detach(), labels.clone()))
        if len(self.buffer) == BUFFER_SIZE:
            self._flush()

    def compute(self) -> dict[str, Tensor]:
        """The metrics since the last reset, over all ranks; all ranks must call it.

        torchmetrics caches the values. Each has shape () and is 0 to 1, but for ``loss`` and
        ``confusion``, int64, shape (C, C): a row per label, a column per predicted class.
        """
        self._flush()
        return {name: metric.compute() for name, metric in self.metrics.items()}

    def reset(self) -> None:
        """Forgets all batches."""
        self.buffer.clear()
        for metric in self.metrics.values():
            metric.reset()

    def _flush(self) -> None:
        """Applies the updates in the buffer."""
        if not self.buffer:
            return
        logits, labels = (torch.cat(parts) for parts in zip(*self.buffer, strict=True))
        self.buffer.clear()
        # The loss of each image: torchmetrics 1.9 ignores weights where NaN is not replaced.
        losses = cross_entropy(logits.float(), labels, reduction="none")
        self.metrics["loss"].update(losses)
        for name, metric in self.metrics.items():
            if name == "ece":  # it would take logits between 0 and 1 for probabilities
                metric.update(logits.float().softmax(dim=1), labels)
            elif name != "loss":
                metric.update(logits, labels)
