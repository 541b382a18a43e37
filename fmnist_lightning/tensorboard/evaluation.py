"""What TensorBoard shows of an evaluation: charts, pictures, layers, and an embedding."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from google.protobuf import text_format
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.tensorboard.callback import tensorboard_loggers
from fmnist_lightning.tensorboard.figures import plot_confusion_matrix, plot_reliability
from fmnist_lightning.tensorboard.grids import make_feature_grid, make_image_grid
from fmnist_lightning.tensorboard.introspection import embeddings, feature_maps, first_conv_filters
from fmnist_lightning.training.metrics import ClassificationMetrics
from fmnist_lightning.training.module import FashionClassifier

NUM_IMAGES, COLUMNS = 20, 5
NUM_EMBEDDED = 500
NUM_FILTERS = 64


class TensorBoardEvaluation(Callback):
    """Writes what an evaluation tells into the TensorBoard logs of the trainer.

    Precision and recall of each class are written each time. Charts and pictures follow after the
    1st, 2nd, 4th, 8th validation and so on, and at the end of a fit; after ``validate`` and
    ``test``, always. The embedding is written at the end. On several processes, pictures and
    confidences are those of the first one; all else is of all.
    """

    def __init__(self) -> None:
        self.num_validations = 0
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []  # pictures, labels, logits
        self.confusion = torch.zeros(0)
        self.ece = 0.0
        self.drawn = True
        self.step = 0  # of the last evaluation

    # ---- what is seen --------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins anew."""
        self.seen = pl_module.eval_outputs  # type: ignore[assignment]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the figures of each class, and at times the rest."""
        assert isinstance(pl_module, FashionClassifier)
        if trainer.sanity_checking or not self.seen:
            return
        self._count(trainer, pl_module.val_metrics, "val")
        self.num_validations += 1
        alone = trainer.state.fn == "validate"
        self.drawn = alone or self.num_validations & (self.num_validations - 1) == 0
        if self.drawn:
            self._draw(trainer, pl_module, "val")
        if alone:
            self._embed(trainer, pl_module, "val")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the rest for the last validation."""
        assert isinstance(pl_module, FashionClassifier)
        if not self.seen:
            return
        pl_module.eval()
        if not self.drawn:
            self._draw(trainer, pl_module, "val")
        self._embed(trainer, pl_module, "val")

    on_test_start = on_validation_start

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes everything for the test pictures."""
        assert isinstance(pl_module, FashionClassifier)
        if self.seen:
            self._count(trainer, pl_module.test_metrics, "test")
            self._draw(trainer, pl_module, "test")
            self._embed(trainer, pl_module, "test")

    def state_dict(self) -> dict[str, Any]:
        """The number of validations so far."""
        return {"num_validations": self.num_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting the validations of a resumed run."""
        self.num_validations = state_dict["num_validations"]

    # ---- what is written -----------------------------------------------------------------------

    def _count(self, trainer: Trainer, metrics: ClassificationMetrics, stage: str) -> None:
        """Takes the figures of all processes, and writes those of each class."""
        self.confusion = metrics.compute()["confusion"].cpu()
        self.ece = float(trainer.callback_metrics[f"{stage}/ece"])
        self.step = trainer.global_step
        precision, recall, _ = _by_class(self.confusion)
        for writer, step in _writers(trainer, self.step):
            for kind, values in (("precision", precision), ("recall", recall)):
                for name, value in zip(CLASSES, values.tolist(), strict=True):
                    writer.add_scalar(f"{stage}_{kind}/{name}", value, step)

    def _draw(self, trainer: Trainer, classifier: FashionClassifier, stage: str) -> None:
        """Writes charts and pictures."""
        writers = _writers(trainer, self.step)
        if not writers:
            return
        images, labels, logits = (torch.cat(part).cpu() for part in zip(*self.seen, strict=True))
        confidences, answers = logits.float().softmax(dim=1).max(dim=1)
        right = answers == labels

        def caption(at: int) -> str:
            """The answer, and below a wrong one, what would be right."""
            text = f"{CLASSES[answers[at]]} {confidences[at]:.1%}"
            return text if right[at] else f"{text}\nis {CLASSES[labels[at]]}"

        pictures: dict[str, Tensor] = {
            "confusion": plot_confusion_matrix(self.confusion, f"{stage}: per cent of each label"),
            "reliability": plot_reliability(confidences, right, self.ece, f"{stage}: reliability"),
        }
        for name, among, sign in (
            ("most confident mistakes", ~right, 1),
            ("least sure hits", right, -1),
        ):
            order = (sign * confidences).masked_fill(~among, -2).argsort(descending=True)
            shown = order[: min(NUM_IMAGES, int(among.sum()))]
            if len(shown):
                pictures[name] = make_image_grid(
                    images[shown], [caption(at) for at in shown.tolist()], COLUMNS
                )
        filters = first_conv_filters(classifier.network)
        if filters is not None:
            rows = torch.split(filters[:NUM_FILTERS].cpu(), 16)
            pictures["filters of the first layer"] = make_feature_grid(
                [("filters", each) for each in rows]
            )
            pixels = classifier.preprocess(self.seen[0][0][:1])
            maps = feature_maps(classifier.network, pixels)
            pictures["feature maps"] = make_feature_grid(
                [("the picture", pixels[0].float().cpu()), *maps]
            )
        for writer, step in writers:
            for name, picture in pictures.items():
                writer.add_image(
                    f"{stage}/{name}",
                    picture,
                    step,
                    dataformats="HWC" if picture.dim() == 3 else "HW",
                )
            writer.add_text(f"{stage}/classes", _as_table(self.confusion), step)

    @torch.no_grad()
    def _embed(self, trainer: Trainer, classifier: FashionClassifier, stage: str) -> None:
        """Writes what the last layer sees of some pictures, for the projector."""
        writers = _writers(trainer, self.step)
        if not writers:
            return
        images, labels, _ = (
            torch.cat(part)[:NUM_EMBEDDED] for part in zip(*self.seen, strict=True)
        )
        answers = torch.cat([classifier(part).argmax(dim=1) for part in torch.split(images, 100)])
        points = torch.cat(
            [
                embeddings(classifier.network, classifier.preprocess(part))
                for part in torch.split(images, 100)
            ]
        )
        names = [
            [CLASSES[label], CLASSES[answer]]
            for label, answer in zip(labels.tolist(), answers.tolist(), strict=True)
        ]
        tag, header = f"{stage} pictures", ["label", "answer"]
        sprites = images.unsqueeze(1).cpu() / 255
        for writer, step in writers:
            folder = Path(writer.log_dir)
            shutil.rmtree(folder / f"{step:05}" / tag, ignore_errors=True)  # of the same test
            with _earlier_embeddings(folder / "projector_config.pbtxt"):
                writer.add_embedding(points, names, sprites, step, tag, header)


@contextlib.contextmanager
def _earlier_embeddings(path: Path) -> Iterator[None]:
    """Puts back the entries of the projector's config that a new writer leaves out."""
    earlier, config = ProjectorConfig(), ProjectorConfig()
    if path.exists():
        text_format.Parse(path.read_text(), earlier)
    yield
    text_format.Parse(path.read_text(), config)
    names = {entry.tensor_name for entry in config.embeddings}
    config.embeddings.extend(e for e in earlier.embeddings if e.tensor_name not in names)
    path.write_text(text_format.MessageToString(config))


def _writers(trainer: Trainer, step: int) -> list[tuple[SummaryWriter, int]]:
    """The TensorBoard logs to write to, each with where to write after so many steps."""
    found = []
    for logger in tensorboard_loggers(trainer):
        fixed = getattr(logger, "step", None)
        # The curves of an epoch are at its last step, which Lightning counts from 0.
        found.append((logger.experiment, max(step - 1, 0) if fixed is None else fixed))
    return found


def _by_class(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall, and accuracy of each class against the rest, shape (10,) each.

    Precision is 0 where a class was never answered, recall where it has no pictures.
    """
    hits, total = confusion.diagonal(), confusion.sum()
    labels, answers = confusion.sum(dim=1), confusion.sum(dim=0)
    rest_right = total - labels - answers + 2 * hits
    return hits / answers.clamp(min=1), hits / labels.clamp(min=1), rest_right / total


def _as_table(confusion: Tensor) -> str:
    """The figures of each class, as Markdown."""
    lines = [
        "| class | precision % | recall % | accuracy against the rest % | pictures |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, figures, num in zip(
        CLASSES, zip(*_by_class(confusion), strict=True), confusion.sum(dim=1), strict=True
    ):
        cells = " | ".join(f"{100 * float(figure):.2f}" for figure in figures)
        lines.append(f"| {name} | {cells} | {int(num):,} |")
    return "\n".join(lines)
