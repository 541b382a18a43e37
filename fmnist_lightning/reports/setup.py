"""What TensorBoard shows of a run from its start: charts of curves, images, hyperparameters."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams
from typing_extensions import override

from fmnist_lightning.data.dataset import TensorImageDataset, global_seed
from fmnist_lightning.reports.logger import log_figure
from fmnist_lightning.training.module import FashionClassifier

SUMMARY_METRICS = ("val/acc", "test/acc", "val/loss", "test/loss", "val/ece", "test/ece")
NUM_IMAGES = 20
NUM_CURVES = 5  # in one chart: TensorBoard has seven colors


class TensorBoardSetup(Callback):
    """Writes what is known before the first step; the log of a resumed run has it already."""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > 0 or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, FashionClassifier)
        # Only the names of the metrics are declared here. TensorBoard takes their values from the
        # curves, so that those of a later `test` appear next to the hyperparameters too.
        metrics = dict.fromkeys(SUMMARY_METRICS, torch.nan)
        summaries = hparams(hyperparameters(trainer, pl_module), metrics)  # type: ignore[no-untyped-call]
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(layout(pl_module.classes))
                for summary in summaries:
                    logger.experiment.file_writer.add_summary(summary)
        dataset = getattr(trainer.datamodule, "train_dataset", None)  # type: ignore[attr-defined]
        if isinstance(dataset, TensorImageDataset):
            from fmnist_lightning.figures import plot_image_grid  # matplotlib takes long to import

            images, labels = dataset.images[:NUM_IMAGES], dataset.labels[:NUM_IMAGES]
            captions = [pl_module.classes[label] for label in labels.tolist()]
            figure = plot_image_grid(images, captions, "Training images")
            log_figure(trainer, "training images", figure, 0)


def layout(classes: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """The charts of several curves; TensorBoard takes the names of curves as patterns."""
    both = {
        title: ["Multiline", [f"^train/{name}$", f"^val/{name}$"]]
        for title, name in (("loss", "loss"), ("accuracy", "acc"))
    }
    per_class = {
        f"{name}, {classes[start]} and next": [
            "Multiline",
            [f"^val_{name}/{re.escape(each)}$" for each in classes[start : start + NUM_CURVES]],
        ]
        for name in ("precision", "recall")
        for start in range(0, len(classes), NUM_CURVES)
    }
    return {"training and validation": both, "per class, validation": per_class}


def hyperparameters(trainer: Trainer, classifier: FashionClassifier) -> dict[str, Any]:
    """The settings to compare runs by, in the order of TensorBoard's columns."""
    model = classifier.hparams
    data = getattr(trainer.datamodule, "hparams", {})  # type: ignore[attr-defined]
    optimizer = model["optimizer"]
    settings = {
        "network": _format_call(model["network"]),
        "optimizer": optimizer["class_path"].rpartition(".")[2],
        "lr": optimizer["init_args"].get("lr", 0),
        "max_epochs": trainer.max_epochs,
        "augmentation": _format_call(model["augmentation"]) if model["augmentation"] else "none",
        "hflip_tta": model["hflip_tta"],
        "translation_tta": model["translation_tta"],
        "lr_schedule": model["lr_schedule"],
        "batch_size": data.get("batch_size"),  # a data module of the user's own may have none
        "train_size": data.get("train_size"),
        "precision": str(trainer.precision),
        "seed": global_seed(),
    }
    for name, value in optimizer["init_args"].items():
        if value:  # what is 0 or false is off
            settings[name] = value if isinstance(value, int | float | str) else str(value)
    return settings


def _format_call(spec: dict[str, Any]) -> str:
    """A class with its arguments, as in Python."""
    arguments = ", ".join(f"{key}={value}" for key, value in spec.get("init_args", {}).items())
    return f"{spec['class_path'].rpartition('.')[2]}({arguments})"
