import pytest
import torch
from torch.nn import functional as F

from fmnist_lightning.training.metrics import ClassificationMetrics

LOGITS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 3


def test_metrics_of_known_logits():
    metrics = ClassificationMetrics(3)
    metrics.update(LOGITS[:30], LABELS[:30])
    metrics.update(LOGITS[30:], LABELS[30:])
    values = metrics.compute()
    predictions = LOGITS.argmax(dim=1)
    assert values["loss"].item() == pytest.approx(F.cross_entropy(LOGITS, LABELS).item())
    assert values["acc"].item() == pytest.approx((predictions == LABELS).float().mean().item())
    assert values["confusion"].dtype == torch.int64
    assert values["confusion"][2, 0] == ((LABELS == 2) & (predictions == 0)).sum()
    confidences = LOGITS.softmax(dim=1).amax(dim=1)
    bins = (confidences * 15).int()
    gaps = [(confidences - (predictions == LABELS).float())[bins == i].sum() for i in range(15)]
    assert values["ece"].item() == pytest.approx(sum(abs(float(gap)) for gap in gaps) / 40)


def test_wrong_labels_are_refused():
    for labels in ([0, 7], [-100, 2]):  # PyTorch ignores the latter
        with pytest.raises(ValueError, match="labels must be 0 to 2 for 3 classes"):
            ClassificationMetrics(3).update(LOGITS[:2], torch.tensor(labels))
