"""What TensorBoard shows of a run from its start: charts of curves, images, hyperparameters."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams
from typing_extensions import override

from fmnist_lightning.data.dataset import TensorImageDataset, global_seed
from fmnist_lightning.reports.logger import log_figure
from fmnist_lightning.training.module import FashionClassifier

# TensorBoard interprets the names as regular expressions; `train/loss_step` must not match.
LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["^train/loss$", "^val/loss$"]],
        "accuracy": ["Multiline", ["^train/acc$", "^val/acc$"]],
    }
}
SUMMARY_METRICS = ("val/acc", "test/acc", "val/loss", "test/loss", "val/ece", "test/ece")
NUM_IMAGES = 20


class TensorBoardSetup(Callback):
    """Writes what is known before the first step; the log of a resumed run has it already."""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.global_step > 0 or not trainer.is_global_zero:
            return
        # Only the names of the metrics are declared here. TensorBoard takes their values from the
        # curves, so that those of a later `test` appear next to the hyperparameters too.
        metrics = dict.fromkeys(SUMMARY_METRICS, torch.nan)
        summaries = hparams(hyperparameters(trainer, pl_module), metrics)  # type: ignore[no-untyped-call]
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(LAYOUT)
                for summary in summaries:
                    logger.experiment.file_writer.add_summary(summary)
        data = trainer.datamodule  # type: ignore[attr-defined]
        dataset = getattr(data, "train_dataset", None)
        if isinstance(dataset, TensorImageDataset):
            from fmnist_lightning.figures import plot_image_grid  # matplotlib takes long to import

            images, labels = dataset.images[:NUM_IMAGES], dataset.labels[:NUM_IMAGES]
            classes = getattr(data, "classes", pl_module.classes)  # in the order of the labels
            captions = [classes[label] for label in labels.tolist()]
            figure = plot_image_grid(images, captions, "Training images")
            log_figure(trainer, "training images", figure)


def hyperparameters(trainer: Trainer, classifier: FashionClassifier) -> dict[str, Any]:
    """The settings to compare runs by.

    TensorBoard sorts them by name and shows the first five, so most have names that come later. It
    leaves out None.
    """
    model = classifier.hparams
    data = getattr(trainer.datamodule, "hparams", {})  # type: ignore[attr-defined]
    optimizer = model["optimizer"]
    others = {
        "augmentation": _format_call(model["augmentation"]) if model["augmentation"] else "none",
        "batch_size": data.get("batch_size"),  # a data module of the user's own may have none
        "train_size": data.get("train_size"),
        "precision": trainer.precision,
        "seed": global_seed(),
        **{key: model[key] for key in ("hflip_tta", "translation_tta", "lr_schedule")},
        **{name: value for name, value in optimizer["init_args"].items() if value},  # is not off
    }
    settings = {
        "epochs": trainer.max_epochs,
        "lr": others.pop("lr", None),
        "network": _format_call(model["network"]),
        "optimizer": optimizer["class_path"].rpartition(".")[2],
    }
    settings |= {f"settings/{name}": value for name, value in others.items()}
    return {
        name: value if isinstance(value, int | float | str | None) else str(value)
        for name, value in settings.items()
    }


def _format_call(spec: dict[str, Any]) -> str:
    """A class with its arguments, as in Python."""
    arguments = ", ".join(f"{key}={value}" for key, value in spec.get("init_args", {}).items())
    return f"{spec['class_path'].rpartition('.')[2]}({arguments})"
