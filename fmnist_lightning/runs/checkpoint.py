"""Checkpoints: how they are written atomically, and read without running code from them."""

import inspect
import os
import warnings
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from fmnist_lightning.internals.files import atomic_write, safe_load
from fmnist_lightning.internals.non_finite import find_non_finite
from fmnist_lightning.internals.specs import find_difference, from_spec
from fmnist_lightning.runs import runs
from fmnist_lightning.training.module import FashionClassifier

WEIGHTS = Path(__file__).parents[1] / "weights"  # the checkpoints that come with this package


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads only tensors and built-in types."""

    @override
    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as stream:
            torch.save(checkpoint, stream)

    @override
    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint, a file or a name, to the CPU, without running code from it.

    Raises ValueError if it is missing, damaged, or of another kind.
    """
    file = Path(path)
    if file.is_symlink() and not file.exists():
        raise ValueError(f"{path} is a broken symlink to {os.readlink(file)}")
    if not file.is_file():
        if str(path) not in (names := checkpoint_names()):
            raise ValueError(
                f"there is no checkpoint file {path}; this package has {', '.join(names)}"
            )
        file = WEIGHTS / f"{path}.ckpt"
    checkpoint: dict[str, Any] = safe_load(file, "is not a checkpoint")
    if not (
        isinstance(checkpoint, dict)
        and "state_dict" in checkpoint
        and isinstance(hparams := checkpoint.get("hyper_parameters"), dict)
        and {"network", "optimizer"} <= hparams.keys()
        and isinstance(checkpoint.get("data"), dict | None)  # text would be imported
    ):
        raise ValueError(
            f"{path} is not a checkpoint of fmnist_lightning: it lacks state_dict or the "
            "hyper_parameters network and optimizer"
        )
    return checkpoint


def checkpoint_names() -> list[str]:
    """The names of the checkpoints that come with this package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.ckpt"))


def load_classifier(path: str | Path, trusted: Collection[str] = ()) -> FashionClassifier:
    """Rebuilds a trained classifier from its checkpoint.

    Args:
        path: The checkpoint, trained on any device and in any precision, or the name of one that
            comes with this package, such as ``fast``. A file of that name wins.
        trusted: Full class paths, such as ``my_package.MyNetwork``, that the checkpoint may name in
            addition to this package, ``torch.nn`` and ``torch.optim``.

    Returns:
        The classifier on the CPU, in evaluation mode.

    Raises:
        ValueError: If there is no such file, it is not a checkpoint of this project, names a class
            that is not trusted, or its weights do not fit its network.
    """
    return Checkpoint(path).build_classifier(trusted)


class Checkpoint:
    """A checkpoint, a file or a name."""

    def __init__(self, path: str | Path, root: Path = Path(runs.ROOT)) -> None:
        self.path = str(path)
        self.content = read_checkpoint(path)
        self.root = root
        self.is_of_package = not Path(path).is_file()  # and so trusted as its code is

    @cached_property
    def run_dir(self) -> Path | None:
        """The folder of its run, or None if it stands alone."""
        if self.is_of_package:
            return None
        return runs.find_run_dir(self.path, self.content.get("run"), self.root)

    def build_classifier(self, trusted: Collection[str] = ()) -> FashionClassifier:
        """Builds its classifier, see :func:`load_classifier`."""
        known = inspect.signature(FashionClassifier).parameters  # a subclass may save others
        saved = from_spec(self.content["hyper_parameters"], trusted)
        hparams = {name: value for name, value in saved.items() if name in known}
        for device in ("meta", "cpu"):  # shapes first: a network of a file may fill the memory
            with torch.device(device), warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* to a meta parameter")  # compared, not copied
                try:
                    classifier = FashionClassifier(**hparams)
                except Exception as error:  # settings of a file can make a constructor raise any
                    raise ValueError(f"{self.path}: {' '.join(str(error).split())}") from error
                self.load_weights(classifier)
        return classifier.eval()

    def load_weights(self, classifier: FashionClassifier) -> None:
        """Loads its weights; ValueError if they do not fit or are not finite."""
        weights = self.content["state_dict"]
        try:
            classifier.load_state_dict(weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            detail = " ".join(str(error).split())
            saved = self.content["hyper_parameters"]["network"]
            current = classifier.hparams["network"]
            if difference := find_difference(saved, current, "--model.network"):
                option, value, given = difference
                detail = f"it has {option} {value}, not {given}"
            raise ValueError(
                f"the weights of {self.path} do not fit the network: {detail}"
            ) from error
        if (name := find_non_finite(weights)) is not None:
            raise ValueError(f"the weights {name} of {self.path} are not finite: training failed")
        keys = {"train_size", "trained_hashes"}  # of the states of data modules
        classifier.trained_on = [
            state
            for name, state in self.content.items()
            if name != "datamodule_hyper_parameters"
            and isinstance(state, dict)
            and keys & state.keys()
        ]

    @property
    def step(self) -> int:
        """The number of optimizer steps done."""
        return int(self.content.get("global_step", 0))

    @property
    def is_last(self) -> bool:
        """Whether it is the one by which its run is resumed."""
        if self.run_dir is None:
            return False
        last = self.run_dir / runs.CHECKPOINTS / runs.LAST
        return last.exists() and last.samefile(self.path)

    @property
    def origin(self) -> str:
        """The run folder that it is of, or what else it is."""
        if self.is_of_package:
            return "of this package"
        return str(self.run_dir or "a file of no run folder")

    def describe(self, classifier: FashionClassifier) -> str:
        """Its origin, network and score, in one line."""
        network = type(classifier.network).__name__
        line = f"{self.path}: {self.origin}, {network}, step {self.step:,}"
        for key, state in self.content.get("callbacks", {}).items():
            loss = state.get("best_model_score") if key.startswith("RunCheckpoint") else None
            if loss is not None and not self.is_last:
                line += f", val loss {loss:.4f}"
        return line
