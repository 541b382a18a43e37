"""Checkpoints: which are kept, how they are written, and how they are read safely."""

import os
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer

from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write, safe_load
from fmnist_lightning.internals.non_finite import find_non_finite
from fmnist_lightning.internals.specs import from_spec
from fmnist_lightning.training import runs
from fmnist_lightning.training.module import FashionClassifier

SPEC_KEYS = ("network", "optimizer", "augmentation")


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, of the lowest validation loss, and ``last.ckpt``, of the latest epoch.

    ``last.ckpt`` exists before the first step, so that a run can be resumed from any moment.
    (``save_last`` of the base class saves only where the loss improved.) It must be the last
    callback, so that ``last.ckpt`` has the state of all others at the end of its epoch.
    """

    def __init__(self, dirpath: Path) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="val/loss",
            mode="min",
            enable_version_counter=False,
        )
        self.last_path = str(dirpath / runs.LAST)
        self.last_step = 0  # of last.ckpt
        self.best_version: tuple[int, int, int] | None = None  # of the link, or the copy
        self.links_best = True  # as best.ckpt in the current folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Converts the weights before a checkpoint is loaded, which would round 64 bits to 32."""
        super().setup(trainer, pl_module, stage)
        trainer.precision_plugin.convert_module(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves ``last.ckpt`` of a run that begins."""
        super().on_train_start(trainer, pl_module)
        self.last_step = trainer.global_step
        if trainer.is_global_zero:
            for leftover in Path(str(self.dirpath)).glob(".*.ckpt.*"):  # of a killed process
                leftover.unlink(missing_ok=True)
        if not trainer.strategy.broadcast(Path(self.last_path).exists()):
            trainer.save_checkpoint(self.last_path, weights_only=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves both checkpoints of an epoch, after its curves are on the disk."""
        if self.monitor in trainer.callback_metrics:  # there was a validation
            super().on_train_epoch_end(trainer, pl_module)
            self._link_best(trainer)
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.last_path, weights_only=False)
        self.last_step = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves ``best.ckpt`` where validations and epochs do not end together."""
        super().on_validation_end(trainer, pl_module)
        self._link_best(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stores the run, by which a copy finds its folder, and whether it is to stop early.

        A ``Timer`` decides anew in a resumed run, whose time may be longer.
        """
        checkpoint["run"] = self._run_name
        timers = [each for each in trainer.callbacks if isinstance(each, Timer)]  # type: ignore[attr-defined]
        remaining = [each.time_remaining() for each in timers]
        expired = any(seconds is not None and seconds <= 0 for seconds in remaining)
        checkpoint["should_stop"] = trainer.should_stop and not expired

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores what Lightning forgets: an early stop, and the current scores."""
        if checkpoint.get("run") == self._run_name:
            trainer.should_stop = checkpoint.get("should_stop", False)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                state = checkpoint["callbacks"].get(callback.state_key, {})
                callback.current_score = state.get("current_score")

    @property
    def _run_name(self) -> str:
        return Path(str(self.dirpath)).parent.name

    def _link_best(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.best_model_path and self.links_best:
            try:
                if runs.best_version() != self.best_version:  # it is not what this run put there
                    runs.check_overwrite()
                runs.link_best(Path(self.best_model_path))
                self.best_version = runs.best_version()
            except ValueError as error:
                self.links_best = False
                print_line(str(error))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads only tensors and built-in types.

    Lightning's own write goes through ``$TMPDIR``, is not atomic across file systems, and can fail
    silently where it has no permission.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Saves ``checkpoint`` as ``path``; where that fails, an earlier file is unchanged."""
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
    """Reads a checkpoint of this project, to the CPU, without running code from it.

    Raises ValueError if it is missing, damaged, or of another kind.
    """
    file = Path(path)
    if file.is_symlink() and not file.exists():
        raise ValueError(f"{path} is a broken symlink to {os.readlink(file)}")
    if not file.is_file():
        raise ValueError(f"there is no checkpoint file {path}")
    checkpoint = safe_load(file, "is not a checkpoint")
    hparams = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(hparams, dict) or not {"state_dict", "network", "optimizer"} <= (
        checkpoint.keys() | hparams
    ):
        raise ValueError(
            f"{path} is not a checkpoint of fmnist_lightning: it lacks state_dict or the "
            "hyper_parameters network and optimizer"
        )
    content: dict[str, Any] = checkpoint
    return content


def load_classifier(
    path: str | os.PathLike[str], trusted: Collection[str] = ()
) -> FashionClassifier:
    """Rebuilds a trained classifier from its checkpoint.

    Args:
        path: The checkpoint, trained on any device and in any precision.
        trusted: Full class paths, such as ``my_package.MyNetwork``, that the checkpoint may name in
            addition to this package, ``torch.nn`` and ``torch.optim``.

    Returns:
        The classifier on the CPU, in evaluation mode.

    Raises:
        ValueError: If the file is not a checkpoint of this project, names a class that is not
            trusted, or its weights do not fit its network.
    """
    return build_classifier(read_checkpoint(path), path, trusted)


def build_classifier(
    checkpoint: dict[str, Any], path: str | os.PathLike[str], trusted: Collection[str] = ()
) -> FashionClassifier:
    """Builds the classifier of a checkpoint, see :func:`load_classifier`."""
    hparams = dict(checkpoint["hyper_parameters"])
    for key in SPEC_KEYS:
        if hparams.get(key) is not None:
            hparams[key] = from_spec(hparams[key], trusted)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are compared, not copied
        # Shapes first: a file may name a network that fills the memory.
        _assign_weights(_construct(hparams, path), checkpoint, path)
    classifier = _construct(hparams, path)
    load_weights(classifier, checkpoint, path)
    return classifier.eval()


def _construct(hparams: dict[str, Any], path: str | os.PathLike[str]) -> FashionClassifier:
    try:
        return FashionClassifier(**hparams)
    except Exception as error:  # settings from a file can make a constructor raise anything
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


def load_weights(
    classifier: FashionClassifier, checkpoint: dict[str, Any], path: str | os.PathLike[str]
) -> None:
    """Loads the weights of a checkpoint; ValueError if they do not fit or are not finite."""
    _assign_weights(classifier, checkpoint, path)
    if (name := find_non_finite(checkpoint["state_dict"])) is not None:
        raise ValueError(f"the weights {name} of {path} are not finite: training failed")


def _assign_weights(
    classifier: FashionClassifier, checkpoint: dict[str, Any], path: str | os.PathLike[str]
) -> None:
    try:
        classifier.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise ValueError(f"the weights of {path} do not fit its network: {detail}") from error
