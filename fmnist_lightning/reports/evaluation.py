"""What TensorBoard shows of an evaluation: charts, images, layers, and an embedding."""

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from typing_extensions import override

from fmnist_lightning.models.introspection import embeddings, feature_maps, first_conv_filters
from fmnist_lightning.reports.logger import find_figure_loggers, fixed_step, log_figure
from fmnist_lightning.training.module import FashionClassifier

NAMES = {"val": "validation", "test": "test"}
NUM_IMAGES, NUM_EMBEDDED, MAX_FILTERS = 10, 500, 64


class EvaluationFigures(Callback):
    """Writes the results of evaluations into TensorBoard, Weights & Biases and MLflow.

    Precision and recall of each class are written after each validation and test; charts, images
    and the embedding, which is for TensorBoard only, after ``validate``, ``test``, and the end of a
    ``fit``. On several processes, the metrics are of all of them, and images and confidences of
    rank 0.
    """

    step = 0  # of the latest evaluation

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._log_classes(trainer, pl_module, "val")
            if trainer.state.fn == "validate":
                self.log_figures(trainer, pl_module, "val")

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_training = pl_module.training
        self.log_figures(trainer, pl_module.eval(), "val")  # of the last validation
        pl_module.train(is_training)

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log_classes(trainer, pl_module, "test")
        self.log_figures(trainer, pl_module, "test")

    def _log_classes(self, trainer: Trainer, classifier: LightningModule, stage: str) -> None:
        assert isinstance(classifier, FashionClassifier)
        # Lightning logs the curves of an epoch at its last step, counted from 0.
        self.step = max(trainer.global_step - 1, 0)
        confusion = getattr(classifier, f"{stage}_metrics").compute()["confusion"]
        correct = confusion.diagonal()
        # Precision is 0 for a class that is never predicted, recall for one without images.
        metrics = {}
        for name, total in (("precision", confusion.sum(dim=0)), ("recall", confusion.sum(dim=1))):
            values = (correct / total.clamp(min=1)).tolist()
            for label, value in zip(classifier.classes, values, strict=True):
                metrics[f"{stage}_{name}/{label}"] = value
        for logger in find_figure_loggers(trainer):
            logger.log_metrics(metrics, self.step)

    def log_figures(self, trainer: Trainer, classifier: LightningModule, stage: str) -> None:
        """Writes charts, images and the embedding of the latest ``val`` or ``test`` evaluation."""
        assert isinstance(classifier, FashionClassifier)
        loggers = find_figure_loggers(trainer)
        if not loggers or not classifier.eval_outputs:
            return
        parts = zip(*classifier.eval_outputs, strict=True)
        images, labels, logits = (torch.cat(part).cpu() for part in parts)
        outputs = images, labels, logits.float().softmax(dim=1)
        for tag, figure in _draw(classifier, *outputs, stage).items():
            log_figure(trainer, f"{stage}/{tag}", figure, self.step)
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                folder = Path(logger.log_dir) / "projector" / stage
                first = (part[:NUM_EMBEDDED] for part in outputs)
                _write_embedding(folder, fixed_step(logger, self.step), classifier, *first)


def _draw(
    classifier: FashionClassifier, images: Tensor, labels: Tensor, probabilities: Tensor, stage: str
) -> dict[str, Any]:
    """The figures of an evaluation by tag; images are uint8, probabilities of shape (N, C)."""
    from fmnist_lightning import figures  # matplotlib takes long to import

    classes, name = classifier.classes, NAMES[stage]
    metrics = getattr(classifier, f"{stage}_metrics").compute()
    confusion, ece = metrics["confusion"].cpu(), float(metrics["ece"])
    confidences, predicted = probabilities.max(dim=1)
    correct = predicted == labels
    drawn = {
        "confusion matrix": figures.plot_confusion_matrix(
            confusion, classes, f"Confusion matrix, {name} (%)"
        ),
        "reliability diagram": figures.plot_reliability(
            confidences, correct, ece, f"Reliability diagram, {name}"
        ),
    }
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
            title = f"{tag.capitalize()}, {name}"
            drawn[tag] = figures.plot_image_grid(images[shown], captions, title, columns=2)
    filters = first_conv_filters(classifier.network)
    if filters is not None:
        inputs = classifier.preprocess(images[:1].to(classifier.device))
        layers = [("input", inputs[0].float().cpu()), *feature_maps(classifier.network, inputs)]
        drawn["feature maps"] = figures.plot_feature_maps(layers, f"Feature maps, {name} image 0")
        drawn["first-layer filters"] = figures.plot_feature_maps(
            [("first convolution", filters)], "First-layer filters", MAX_FILTERS
        )
    return drawn


def _write_embedding(
    folder: Path,
    step: int | None,
    classifier: FashionClassifier,
    images: Tensor,
    labels: Tensor,
    probabilities: Tensor,
) -> None:
    """Writes a log folder for the projector, in place of the one of an earlier evaluation."""
    batches = torch.split(images.to(classifier.device), 100)
    points = [embeddings(classifier.network, classifier.preprocess(batch)) for batch in batches]
    pairs = zip(labels.tolist(), probabilities.argmax(dim=1).tolist(), strict=True)
    names = [[classifier.classes[index] for index in pair] for pair in pairs]
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(
            torch.cat(points),
            names,
            images.unsqueeze(1) / 255,
            step,
            "penultimate-layer embedding",
            ["label", "prediction"],
        )
