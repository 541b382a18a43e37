"""Loss, accuracy and calibration over the images of an epoch. Plain torchmetrics."""

from collections.abc import Collection

from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)
from typing_extensions import override

from fmnist_lightning.data.checks import check_labels


class ClassificationMetrics(MetricCollection):
    """The metrics of one stage. Every image weighs the same, also in a smaller last batch.

    Update them once an epoch: an update per batch takes a twentieth of a small network's step.

    ``compute``, which all ranks must call, gives ``loss``, ``acc`` and ``ece``, shape (), the
    latter two 0 to 1; and ``confusion``, int64, shape (C, C), with a row per label and a column per
    predicted class.

    Args:
        num_classes: Number of classes C.
        metrics: Which of them to compute.
    """

    def __init__(
        self, num_classes: int, metrics: Collection[str] = ("loss", "acc", "confusion", "ece")
    ) -> None:
        available: dict[str, Metric] = {
            # The default checks each update for NaN, which synchronizes with a GPU.
            "loss": MeanMetric(nan_strategy="disable"),
            # `micro` counts every image once; the default is the mean over the classes.
            "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            "confusion": MulticlassConfusionMatrix(num_classes, validate_args=False),
            # Expected calibration error, 15 bins: how far confidence is from accuracy
            # (https://arxiv.org/abs/1706.04599).
            "ece": MulticlassCalibrationError(num_classes, n_bins=15, validate_args=False),
        }
        super().__init__({name: available[name] for name in metrics}, compute_groups=False)

    @override
    def update(self, logits: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        """Adds logits, shape (N, C), and labels, int64, shape (N,)."""
        check_labels(labels, logits.shape[1])
        # The loss of each image, as torchmetrics 1.9 ignores weights with `disable`.
        losses = F.cross_entropy(logits.float(), labels, reduction="none")
        for name, metric in self.items():
            if name == "loss":
                metric.update(losses)
            elif name == "ece":  # it would take logits between 0 and 1 for probabilities
                metric.update(logits.float().softmax(dim=1), labels)
            else:
                metric.update(logits, labels)
