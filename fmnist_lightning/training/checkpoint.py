"""Checkpoints: which are kept, how they are written, and how they are read without risk."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fmnist_lightning.internals.files import atomic_write
from fmnist_lightning.internals.specs import check_spec, from_spec, safe_load
from fmnist_lightning.tensorboard.callback import tensorboard_loggers
from fmnist_lightning.training.module import FashionClassifier
from fmnist_lightning.training.runs import link_best

SPEC_KEYS = ("network", "optimizer", "augmentation")


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the lowest validation loss, and leads ``best.ckpt`` to it.

    Args:
        folder: Where it is kept, as ``best.ckpt``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor="val/loss",
            mode="min",
            enable_version_counter=False,
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where the loss improved, see the base class, and publishes."""
        super().on_train_epoch_end(trainer, pl_module)
        self._publish(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where the loss improved, see the base class, and publishes."""
        super().on_validation_end(trainer, pl_module)
        self._publish(trainer)

    def _publish(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.best_model_path:
            link_best(Path(self.best_model_path))


class LastCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the latest epoch, whether it improved or not, to resume from.

    There is one before the first step, so that a run can be resumed whenever it was stopped. What
    the TensorBoard logs hold up to an epoch is on the disk before its checkpoint.

    It must come after :class:`BestCheckpoint` in the list of callbacks, so that what it saves knows
    of the best score of its own epoch. ``ModelCheckpoint(save_last=True)`` would not do: it saves
    only where the loss improved.

    Args:
        folder: Where it is kept, as ``last.ckpt``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            dirpath=folder,
            filename="last",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.step = 0  # of the latest that was saved or loaded

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves a run that begins."""
        super().on_train_start(trainer, pl_module)
        self.step = trainer.global_step
        path = self.format_checkpoint_name({})
        if not trainer.strategy.broadcast(Path(path).exists()):  # it does where a run is resumed
            trainer.save_checkpoint(path, weights_only=False)  # not the weights alone

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the epoch, see the base class, after its curves."""
        for logger in tensorboard_loggers(trainer):
            logger.experiment.flush()
        super().on_train_epoch_end(trainer, pl_module)
        self.step = trainer.global_step


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there in one step; reads tensors only.

    Lightning's own write goes through ``$TMPDIR``, is not atomic across file systems, and can fail
    without a word where it has no permission.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Saves ``checkpoint`` as ``path``; a failure leaves what was there before."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as stream:
            torch.save(checkpoint, stream)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Loads ``path``, see :func:`read_checkpoint`; ``weights_only`` is always true."""
        return read_checkpoint(path)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint of this project: tensors and plain types, nothing that runs code.

    Args:
        path: A local file.

    Returns:
        The content, with tensors on the CPU.

    Raises:
        ValueError: If there is no such file, it is not a checkpoint, or not one of this project.
    """
    file = Path(path)
    if file.is_symlink() and not file.exists():
        raise ValueError(f"{path} leads to {os.readlink(file)}, which is gone")
    if not file.is_file():
        raise ValueError(f"there is no checkpoint file {path}")
    checkpoint = safe_load(file, "is not a checkpoint")
    hparams = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(hparams, dict) or not {"state_dict", "network", "optimizer"} <= (
        checkpoint.keys() | hparams
    ):
        raise ValueError(f"{path} is a checkpoint of another program")
    content: dict[str, Any] = checkpoint
    return content


def check_trust(checkpoint: dict[str, Any], trusted: Collection[str] = ()) -> None:
    """Checks that a checkpoint names no class that must not be imported.

    Args:
        checkpoint: What :func:`read_checkpoint` gave.
        trusted: Full class paths that are allowed besides this package's and PyTorch's.

    Raises:
        ValueError: If it does.
    """
    for spec in _recipes(checkpoint).values():
        check_spec(spec, trusted)


def _recipes(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The specs that a checkpoint holds, by name; there may be no augmentation."""
    hparams = checkpoint["hyper_parameters"]
    return {key: hparams[key] for key in SPEC_KEYS if hparams.get(key) is not None}


def load_classifier(
    path: str | os.PathLike[str], trusted: Collection[str] = ()
) -> FashionClassifier:
    """Rebuilds a trained classifier from its checkpoint, on the CPU and ready to classify.

    Args:
        path: The checkpoint, wherever and in whichever precision it was trained.
        trusted: Full class paths, such as ``my_package.MyNetwork``, that the checkpoint may name
            besides those of this package, ``torch.nn``, ``torch.optim`` and ``torchvision.models``.

    Returns:
        The classifier in evaluation mode.

    Raises:
        ValueError: If the file is no checkpoint of this project, its classes are not trusted, or
            its weights don't fit its network.
    """
    checkpoint = read_checkpoint(path)
    hparams = dict(checkpoint["hyper_parameters"])
    for key, spec in _recipes(checkpoint).items():
        hparams[key] = from_spec(spec, trusted)
    try:
        classifier = FashionClassifier(**hparams)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error
    load_weights(classifier, checkpoint, path)
    return classifier.eval()


def load_weights(
    classifier: FashionClassifier, checkpoint: dict[str, Any], path: str | os.PathLike[str]
) -> None:
    """Loads the weights of a checkpoint.

    Raises:
        ValueError: If they don't fit.
    """
    try:
        classifier.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise ValueError(f"the weights of {path} don't fit its network: {detail}") from error
