"""What TensorBoard shows of a run from its start: charts of curves, images, config, settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.tensorboard.summary import hparams

from fmnist_lightning.data.dataset import TensorImageDataset, global_seed
from fmnist_lightning.internals.specs import flatten
from fmnist_lightning.tensorboard.logger import find_other_loggers, find_writers, log_figure
from fmnist_lightning.training.module import FashionClassifier

# TensorBoard interprets the names as regular expressions; `train/loss_step` must not match.
LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["^train/loss$", "^val/loss$"]],
        "accuracy": ["Multiline", ["^train/acc$", "^val/acc$"]],
    },
    "per class, validation": {
        "precision": ["Multiline", ["^val_precision/"]],
        "recall": ["Multiline", ["^val_recall/"]],
    },
}
SUMMARY_METRICS = ("val/acc", "test/acc", "val/loss", "test/loss", "val/ece", "test/ece")
NUM_IMAGES = 20


class TensorBoardSetup(Callback):
    """Writes what is known before the first step; the log of a resumed run has it already."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the layout of charts, hyperparameters, config and training images."""
        if trainer.global_step > 0:
            return
        assert isinstance(pl_module, FashionClassifier)
        path = Path(trainer.default_root_dir) / "config.yaml"
        dataset = getattr(_datamodule(trainer), "train_dataset", None)
        for writer, _ in find_writers(trainer):
            writer.add_custom_scalars(LAYOUT)
            if path.is_file():
                lines = path.read_text(encoding="utf-8").splitlines()
                writer.add_text("config", "\n".join(f"    {line}" for line in lines))
            # Only the names of the metrics are declared here. TensorBoard takes their values from
            # the curves, so that those of a later `test` appear next to the hyperparameters too.
            metrics = dict.fromkeys(SUMMARY_METRICS, torch.nan)
            for summary in hparams(hyperparameters(trainer, pl_module), metrics):  # type: ignore[no-untyped-call]
                writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]
        loggers = [*find_writers(trainer), *find_other_loggers(trainer)]
        if loggers and isinstance(dataset, TensorImageDataset):
            figure = _draw_images(dataset, pl_module.classes)
            log_figure(trainer, "training images", figure, trainer.global_step)


def hyperparameters(trainer: Trainer, classifier: FashionClassifier) -> dict[str, Any]:
    """The few settings to compare runs by, numbers and texts by name; the config has all."""
    model, data = classifier.hparams, getattr(_datamodule(trainer), "hparams", {})
    optimizer = model["optimizer"]
    found = {
        "network": _format_call(model["network"]),
        "optimizer": optimizer["class_path"].rpartition(".")[2],
        "max_epochs": trainer.max_epochs,
        "augmentation": _format_call(model["augmentation"]) if model["augmentation"] else "none",
        "hflip_tta": model["hflip_tta"],
        "translation_tta": model["translation_tta"],
        # What is 0 or false is off.
        **{name: value for name, value in flatten(optimizer["init_args"]).items() if value},
        "lr_schedule": model["lr_schedule"],
        "batch_size": data.get("batch_size"),  # a data module of the user's own may have none
        "train_size": data.get("train_size"),
        "precision": str(trainer.precision),
        "seed": global_seed(),
    }
    return {name: value for name, value in found.items() if value is not None}


def _datamodule(trainer: Trainer) -> Any:
    return getattr(trainer, "datamodule", None)


def _format_call(spec: dict[str, Any]) -> str:
    """A class with its arguments, as in Python."""
    arguments = ", ".join(f"{key}={value}" for key, value in spec.get("init_args", {}).items())
    return f"{spec['class_path'].rpartition('.')[2]}({arguments})"


def _draw_images(dataset: TensorImageDataset, classes: Sequence[str]) -> Any:
    from fmnist_lightning.figures import plot_image_grid  # matplotlib takes long to import

    images, labels = dataset.images[:NUM_IMAGES].cpu(), dataset.labels[:NUM_IMAGES].tolist()
    return plot_image_grid(images, [classes[label] for label in labels], "Training images")
