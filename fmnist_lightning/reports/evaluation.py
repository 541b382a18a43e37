"""What TensorBoard shows of an evaluation: charts, images and layers."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from typing_extensions import override

from fmnist_lightning.models.introspection import feature_maps, first_conv_filters
from fmnist_lightning.reports.logger import find_step, log_figure
from fmnist_lightning.training.module import FashionClassifier

NUM_IMAGES, MAX_FILTERS = 10, 64


class EvaluationFigures(Callback):
    """Writes the results of evaluations into TensorBoard, Weights & Biases and MLflow.

    Precision and recall of each class are written after each validation and test; charts and images
    after ``validate``, ``test``, and the end of a ``fit``. On several processes, the metrics are of
    all of them, and images and confidences of rank 0.
    """

    def __init__(self) -> None:
        self.recalls: dict[int, list[float]] = {}  # of each class, by the epoch of this fit

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._log_classes(trainer, pl_module, "val")
            if trainer.state.fn == "validate":
                self.log_figures(trainer, pl_module, "val")

    @override
    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.log_figures(trainer, pl_module.eval(), "val")  # of the last validation
        pl_module.train()
        if trainer.is_global_zero and len(self.recalls) > 1:
            from fmnist_lightning.figures import plot_curves  # matplotlib takes long to import

            epochs, values = zip(*self.recalls.items(), strict=True)
            figure = plot_curves(epochs, values, pl_module.classes, "Recall, val")
            log_figure(trainer, "val/recall", figure)

    @override
    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._log_classes(trainer, pl_module, "test")
        self.log_figures(trainer, pl_module, "test")

    def _log_classes(self, trainer: Trainer, classifier: Any, stage: str) -> None:
        confusion = classifier.compute_metrics(stage).get("confusion")
        if confusion is None:  # a step of one's own may keep no outputs
            return
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

    def log_figures(self, trainer: Trainer, classifier: Any, stage: str) -> None:
        """Writes charts and images of the latest ``val`` or ``test`` evaluation."""
        if not trainer.is_global_zero or not classifier.step_outputs[stage]:
            return
        for tag, figure in draw(classifier, stage):
            log_figure(trainer, f"{stage}/{tag}", figure)


def draw(classifier: FashionClassifier, stage: str) -> Iterator[tuple[str, Any]]:
    """Tags and figures of the latest evaluation."""
    from fmnist_lightning import figures  # matplotlib takes long to import

    parts = zip(*classifier.step_outputs[stage], strict=True)
    images, labels, logits = (torch.cat(part).cpu() for part in parts)
    classes = classifier.classes
    metrics = classifier.compute_metrics(stage)
    confusion, ece = metrics["confusion"].cpu(), float(metrics["ece"])
    confidences, predicted = logits.float().softmax(dim=1).max(dim=1)
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
