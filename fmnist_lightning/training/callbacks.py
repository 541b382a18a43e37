"""What a run says in the terminal, and the figures it leaves in its folder."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.training.metrics import ClassificationMetrics
from fmnist_lightning.training.module import FashionClassifier


class EpochSummary(Callback):
    """Prints the losses and accuracies of each epoch, and whether the validation loss improved."""

    def __init__(self) -> None:
        self.best_loss = float("inf")
        self.validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers that the epoch has figures of its own; not all need to be validated."""
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line of the epoch."""
        assert isinstance(pl_module, FashionClassifier)
        # Computed here, on all processes: the module logs these two after this hook only.
        train_loss = pl_module.train_metrics["loss"].compute()
        train_acc = pl_module.train_metrics["acc"].compute()
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        line = (
            f"epoch {trainer.current_epoch + 1:>2}{of}  "
            f"train loss {train_loss:.4f} acc {100 * train_acc:5.2f} %"
        )
        if self.validated:
            self.validated = False
            val_loss = trainer.callback_metrics["val/loss"].item()
            val_acc = trainer.callback_metrics["val/acc"].item()
            line += f"  val loss {val_loss:.4f} acc {100 * val_acc:5.2f} %"
            if val_loss < self.best_loss:
                line += "  improved" + (
                    f" from {self.best_loss:.4f}" if self.best_loss < float("inf") else ""
                )
                self.best_loss = val_loss
        if trainer.is_global_zero:
            print_line(line)

    def state_dict(self) -> dict[str, Any]:
        """The lowest validation loss so far."""
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a resumed run's lowest validation loss."""
        self.best_loss = state_dict["best_loss"]


class EvaluationSummary(Callback):
    """Prints the figures of ``validate`` and ``test``, and writes them into the run's folder.

    ``test.json`` and ``validate.json`` hold what is printed, unrounded.

    Args:
        run_dir: The folder of the run that the checkpoint is from; None writes nothing.
    """

    def __init__(self, run_dir: Path | None) -> None:
        self.run_dir = run_dir

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports ``validate``; the validation within ``fit`` is for :class:`EpochSummary`."""
        assert isinstance(pl_module, FashionClassifier)
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module.val_metrics, "validate")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports ``test``."""
        assert isinstance(pl_module, FashionClassifier)
        self._report(trainer, pl_module.test_metrics, "test")

    def _report(self, trainer: Trainer, metrics: ClassificationMetrics, name: str) -> None:
        figures = compute_summary(  # on all processes, which compute() brings together
            *(metrics[kind].compute() for kind in ("loss", "confusion", "ece"))
        )
        if not trainer.is_global_zero:
            return
        print_line(format_metrics(name, figures))
        if self.run_dir:
            path = self.run_dir / f"{name}.json"
            path.write_text(json.dumps(figures, indent=2) + "\n")


def compute_summary(loss: Tensor, confusion: Tensor, ece: Tensor) -> dict[str, Any]:
    """Puts the figures of an evaluation together.

    Args:
        loss: Mean loss, shape ().
        confusion: Counts, int64, shape (10, 10): a row for each label, a column for each answer.
        ece: Expected calibration error, shape ().

    Returns:
        ``loss``, ``accuracy`` (0 to 1), ``correct``, ``total``, ``ece`` (0 to 1), and ``classes``:
        for each class its ``correct`` and ``total``.
    """
    correct, total = int(confusion.diagonal().sum()), int(confusion.sum())
    return {
        "loss": float(loss),
        "accuracy": correct / total,
        "correct": correct,
        "total": total,
        "ece": float(ece),
        "classes": {
            name: {"correct": int(row[index]), "total": int(row.sum())}
            for index, (name, row) in enumerate(zip(CLASSES, confusion, strict=True))
        },
    }


def format_metrics(name: str, figures: dict[str, Any]) -> str:
    """Formats what :func:`compute_summary` gave, for the terminal."""
    lines = [
        f"{name} loss {figures['loss']:.4f}",
        f"{name} accuracy {100 * figures['accuracy']:.2f} % "
        f"({figures['correct']:,}/{figures['total']:,})",
        f"{name} calibration error {100 * figures['ece']:.2f} %",
    ]
    for class_name, part in figures["classes"].items():
        share = f"{100 * part['correct'] / part['total']:6.2f} %" if part["total"] else "     - "
        lines.append(f"  {class_name:<12} {share} ({part['correct']:,}/{part['total']:,})")
    return "\n".join(lines)
