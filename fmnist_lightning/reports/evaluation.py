"""What TensorBoard shows of an evaluation: charts, images and layers."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from fmnist_lightning.models.introspection import feature_maps, first_conv_filters
from fmnist_lightning.reports.logger import log_figure
from fmnist_lightning.training.module import FashionClassifier

NUM_IMAGES, MAX_FILTERS = 10, 64
Outputs = tuple[Tensor, Tensor, Tensor]  # images, uint8; labels; probabilities, (N, C)


class EvaluationFigures(Callback):
    """Writes the results of evaluations into TensorBoard, Weights & Biases and MLflow.

    Precision and recall of each class are written after each validation and test; charts and images
    after ``validate``, ``test``, and the end of a ``fit``. On several processes, the metrics are of
    all of them, and images and confidences of rank 0.
    """

    def __init__(self) -> None:
        self.recalls: dict[int, list[float]] = {}  # of each class, by the epoch of this fit

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._log_classes(trainer, pl_module, "val")
            if trainer.state.fn == "validate":
                self.log_figures(trainer, pl_module, "val")

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.log_figures(trainer, pl_module.eval(), "val")  # of the last validation
        pl_module.train()
        if trainer.is_global_zero and len(self.recalls) > 1:
            from fmnist_lightning.figures import plot_curves  # matplotlib takes long to import

            epochs, values = zip(*self.recalls.items(), strict=True)
            figure = plot_curves(epochs, values, pl_module.classes, "Recall, val")  # type: ignore[arg-type]
            log_figure(trainer, "val/recall", figure, find_step(trainer))

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log_classes(trainer, pl_module, "test")
        self.log_figures(trainer, pl_module, "test")

    def _log_classes(self, trainer: Trainer, classifier: LightningModule, stage: str) -> None:
        assert isinstance(classifier, FashionClassifier)
        confusion = getattr(classifier, f"{stage}_metrics").compute()["confusion"]
        metrics = {}
        # Precision is 0 for a class that is never predicted, recall for one without images.
        for name, dim in (("precision", 0), ("recall", 1)):
            values = confusion.diagonal() / confusion.sum(dim).clamp(min=1)
            for label, value in zip(classifier.classes, values.tolist(), strict=True):
                metrics[f"{stage}_{name}/{label}"] = value
        if trainer.state.fn == "fit":
            recalls = [metrics[f"val_recall/{label}"] for label in classifier.classes]
            self.recalls[trainer.current_epoch + 1] = recalls
        for logger in trainer.loggers:
            logger.log_metrics(metrics, find_step(trainer))

    def log_figures(self, trainer: Trainer, classifier: LightningModule, stage: str) -> None:
        """Writes charts and images of the latest ``val`` or ``test`` evaluation."""
        assert isinstance(classifier, FashionClassifier)
        if not trainer.is_global_zero or not classifier.eval_outputs:
            return
        parts = zip(*classifier.eval_outputs, strict=True)
        images, labels, logits = (torch.cat(part).cpu() for part in parts)
        outputs = images, labels, logits.float().softmax(dim=1)
        step = find_step(trainer)
        for tag, figure in draw(classifier, outputs, stage):
            log_figure(trainer, f"{stage}/{tag}", figure, step)


def find_step(trainer: Trainer) -> int:
    """The last step, counted from 0 as that of Lightning's curves, or that of a checkpoint."""
    fixed: int | None = getattr(trainer.logger, "step", None)
    return max(trainer.global_step - 1, 0) if fixed is None else fixed


def draw(classifier: FashionClassifier, outputs: Outputs, stage: str) -> Iterator[tuple[str, Any]]:
    """Tags and figures of an evaluation."""
    from fmnist_lightning import figures  # matplotlib takes long to import

    images, labels, probabilities = outputs
    classes = classifier.classes
    metrics = getattr(classifier, f"{stage}_metrics").compute()
    confusion, ece = metrics["confusion"].cpu(), float(metrics["ece"])
    confidences, predicted = probabilities.max(dim=1)
    correct = predicted == labels
    title = f"Confusion matrix, {stage} (%)"
    yield "confusion matrix", figures.plot_confusion_matrix(confusion, classes, title)
    title = f"Reliability diagram, {stage}"
    yield "reliability diagram", figures.plot_reliability(confidences, correct, ece, title)
    for tag, candidates, order in (
        ("most confident misclassified", ~correct, confidences.argsort(descending=True)),
        ("least confident correct", correct, confidences.argsort()),
    ):
        shown = order[candidates[order]][:NUM_IMAGES]
        captions = [
            f"predicted {classes[predicted[index]]} {100 * confidences[index]:.1f} %\n"
            f"label {classes[labels[index]]}"
            for index in shown
        ]
        if captions:
            title = f"{tag.capitalize()}, {stage}"
            yield tag, figures.plot_image_grid(images[shown], captions, title, columns=2)
    filters = first_conv_filters(classifier.network)
    if filters is not None:
        inputs = classifier.preprocess(images[:1].to(classifier.device))
        layers = [("input", inputs[0].float().cpu()), *feature_maps(classifier.network, inputs)]
        yield "feature maps", figures.plot_feature_maps(layers, f"Feature maps, {stage} image 0")
        layers = [("first convolution", filters)]
        title = "First-layer filters"
        yield "first-layer filters", figures.plot_feature_maps(layers, title, MAX_FILTERS)
