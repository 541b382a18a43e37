"""What is measured over the pictures of an epoch. Plain torchmetrics."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)

from fmnist_lightning.data.dataset import NUM_CLASSES

MOST_UNSEEN = 100  # batches


class ClassificationMetrics(nn.Module):
    """The metrics of a stage, over all pictures of an epoch, each counted once.

    They see many batches at a time: an update for each would cost a small network a twentieth of
    its step. Kept for a whole epoch, batches would scatter over 100 MB of memory.

    Args:
        more: Whether to have ``confusion`` and ``ece`` beside ``loss`` and ``acc``.
    """

    def __init__(self, more: bool = True) -> None:
        super().__init__()
        # By default it looks for NaN, which makes a GPU wait, and leaves it out.
        self.kinds = nn.ModuleDict({"loss": MeanMetric(nan_strategy="disable")})
        # `micro`: every picture counts once; the default is the mean over the classes.
        self.kinds["acc"] = MulticlassAccuracy(NUM_CLASSES, average="micro", validate_args=False)
        if more:
            self.kinds["confusion"] = MulticlassConfusionMatrix(NUM_CLASSES, validate_args=False)
            # The expected calibration error: by how much confidence and accuracy differ, in 15 bins
            # (https://arxiv.org/abs/1706.04599).
            self.kinds["ece"] = MulticlassCalibrationError(
                NUM_CLASSES, n_bins=15, validate_args=False
            )
        self.unseen: list[tuple[Tensor, Tensor]] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            logits: Of the network, shape (N, 10).
            labels: Class numbers, int64, shape (N,).
        """
        # A copy: labels from a worker would each keep a file open.
        self.unseen.append((logits.detach(), labels.clone()))
        if len(self.unseen) == MOST_UNSEEN:
            self._count()

    def __getitem__(self, kind: str) -> Metric:
        """A metric, with all batches so far.

        Args:
            kind: ``loss``, ``acc``, ``confusion`` or ``ece``.
        """
        self._count()
        return self._metric(kind)

    def reset(self) -> None:
        """Begins anew; Lightning resets only metrics that it has logged."""
        self.unseen.clear()
        for kind in self.kinds:
            self._metric(kind).reset()

    def _count(self) -> None:
        """Shows the metrics what they have not seen yet."""
        if not self.unseen:
            return
        logits, labels = (torch.cat(parts) for parts in zip(*self.unseen, strict=True))
        self.unseen.clear()
        # Each picture's own: torchmetrics 1.9 drops weights where NaN is let through.
        self._metric("loss").update(F.cross_entropy(logits.float(), labels, reduction="none"))
        for kind in self.kinds:
            if kind == "ece":  # of logits between 0 and 1, it would think that they are softmax's
                self._metric(kind).update(logits.float().softmax(dim=1), labels)
            elif kind != "loss":
                self._metric(kind).update(logits, labels)

    def _metric(self, kind: str) -> Metric:
        metric = self.kinds[kind]
        assert isinstance(metric, Metric)
        return metric
