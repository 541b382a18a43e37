"""Checkpoints: how they are written atomically, and read without running code from them."""

import os
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from fmnist_lightning.internals.files import atomic_write, safe_load
from fmnist_lightning.internals.non_finite import find_non_finite
from fmnist_lightning.internals.specs import from_spec
from fmnist_lightning.runs import runs
from fmnist_lightning.training.module import FashionClassifier

SPEC_KEYS = ("network", "optimizer", "augmentation")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads only tensors and built-in types.

    Lightning's own write goes through ``$TMPDIR``, is not atomic across file systems, and can fail
    silently where it has no permission.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as stream:
            torch.save(checkpoint, stream)

    @override
    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
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

    def build() -> FashionClassifier:
        try:
            classifier = FashionClassifier(**hparams)
        except Exception as error:  # settings from a file can make a constructor raise anything
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
        load_weights(classifier, checkpoint, path)
        return classifier.eval()

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are compared, not copied
        build()  # shapes first: a file may name a network that fills the memory
    return build()


def load_weights(
    classifier: FashionClassifier, checkpoint: dict[str, Any], path: str | os.PathLike[str]
) -> None:
    """Loads the weights of a checkpoint; ValueError if they do not fit or are not finite."""
    try:
        classifier.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise ValueError(f"the weights of {path} do not fit its network: {detail}") from error
    if (name := find_non_finite(checkpoint["state_dict"])) is not None:
        raise ValueError(f"the weights {name} of {path} are not finite: training failed")


class Checkpoint(NamedTuple):
    """A checkpoint, its content, and the folder of its run, or None if it stands alone."""

    path: str
    content: dict[str, Any]
    run_dir: Path | None

    @classmethod
    def find(cls, name: str, root: Path) -> "Checkpoint":
        """Reads the checkpoint of a path; ``last`` is that of the latest run below ``root``."""
        path = name
        if name == "last":
            path = str(runs.latest_run_dir(root) / runs.CHECKPOINTS / runs.LAST)
        content = read_checkpoint(path)
        return cls(path, content, runs.find_run_dir(Path(path), content.get("run"), root))

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

    def describe(self, classifier: FashionClassifier) -> str:
        """Its run, network and score, in one line."""
        run = os.path.relpath(self.run_dir) if self.run_dir else "of no run folder"
        line = f"{self.path}: {run}, {type(classifier.network).__name__}, step {self.step:,}"
        for key, state in self.content.get("callbacks", {}).items():
            is_best = key.startswith("RunCheckpoint") and not self.is_last
            if is_best and (loss := state["best_model_score"]) is not None:
                line += f", val loss {loss:.4f}"
        return line
