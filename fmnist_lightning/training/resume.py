"""Which checkpoint ``--ckpt_path`` means, and whether the settings fit it."""

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from fmnist_lightning.data.datamodule import SPLIT_KEYS
from fmnist_lightning.data.folder import ImageFolderDataModule
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.specs import flatten
from fmnist_lightning.training import runs
from fmnist_lightning.training.checkpoint import read_checkpoint
from fmnist_lightning.training.module import FashionClassifier

DATA_MODULE = "fmnist_lightning.FashionMNISTDataModule"
# What decides how many steps a run takes.
LENGTH_KEYS = (
    "data.batch_size",
    *("trainer.max_epochs", "trainer.max_steps"),
    *("trainer.limit_train_batches", "trainer.accumulate_grad_batches"),
)


class CheckpointSource(NamedTuple):
    """A checkpoint, its content, and the folder of its run, or None if it stands alone."""

    path: str
    content: dict[str, Any]
    run_dir: Path | None

    @property
    def step(self) -> int:
        """The number of optimiser steps done."""
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
        callbacks = self.content.get("callbacks")
        for key, state in callbacks.items() if isinstance(callbacks, dict) else ():
            if str(key).startswith("RunCheckpoint") and not self.is_last:
                with contextlib.suppress(TypeError, KeyError, ValueError):  # there is none
                    line += f", val loss {float(state['best_model_score']):.4f}"
        return line

    @property
    def split(self) -> dict[str, int]:
        """The split of the data that it was trained on; empty where it stores none."""
        hparams = self._data_hparams
        return {key: hparams[key] for key in SPLIT_KEYS if type(hparams.get(key)) is int}

    @property
    def data(self) -> dict[str, Any]:
        """The data module of this package that it was trained with, as settings."""
        folder = ImageFolderDataModule.__name__
        if folder not in self.content:  # Lightning stores the state of a data module by its class
            return {"class_path": DATA_MODULE, "init_args": self.split}
        data_dir = {"data_dir": str(self._data_hparams.get("data_dir"))}
        return {"class_path": f"fmnist_lightning.{folder}", "init_args": data_dir | self.split}

    @property
    def _data_hparams(self) -> dict[str, Any]:
        hparams = self.content.get("datamodule_hyper_parameters")
        return hparams if isinstance(hparams, dict) else {}


def resolve_checkpoint(path: str, root: Path) -> CheckpointSource:
    """Reads the checkpoint ``path``; ``last`` means that of the latest run below ``root``."""
    run_dir = None
    if path == "last":
        run_dir = runs.latest_run_dir(root)
        path = str(run_dir / runs.CHECKPOINTS / runs.LAST)
    content = read_checkpoint(path)
    return CheckpointSource(path, content, run_dir or runs.find_run_dir(Path(path), content, root))


class SaveRunConfig(SaveConfigCallback):
    """Saves the config of a ``fit`` into its run folder."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes ``config.yaml``, unless the run is resumed and has one."""
        path = Path(trainer.default_root_dir) / "config.yaml"
        if not path.exists():
            config = self.config.clone()
            config.pop("ckpt_path")  # or it would replace that of a later command
            try:
                self.parser.save(config, path, skip_none=False)
            except (yaml.YAMLError, TypeError, ValueError) as error:
                print_line(f"A resume needs all options again: {path} can't be saved ({error})")


def read_run_config(path: Path) -> dict[str, Any]:
    """The config that a ``fit`` saved, as plain values."""
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not the config of a run: {error}") from error
    if not isinstance(config, dict) or not {"model", "data", "trainer"} <= config.keys():
        raise ValueError(f"{path} is not the config of a run: it lacks model, data or trainer")
    return config


def check_compatible(settings: dict[str, Any], source: CheckpointSource, complete: bool) -> None:
    """Raises where the config of a command conflicts with what a checkpoint was trained with.

    A model that is not ``complete`` takes what it leaves out from the checkpoint.
    """
    hparams = {k: v for k, v in source.content["hyper_parameters"].items() if k != "classes"}
    saved = flatten({"model": hparams, "data": source.split})
    given = {
        # A config for `fit` may name a class alone.
        f"{key}.class_path" if f"{key}.class_path" in saved else key: value
        for key, value in _flatten(settings).items()
        if key.startswith("model.") or (key in saved and key.startswith("data."))
    }
    # As text, which the command line has where there is no option to say the type.
    wrong = {k for k in given.keys() & saved if str(given[k]).lower() != str(saved[k]).lower()}
    # Arguments of a class may be left out where they have their defaults.
    missing = (given.keys() ^ saved) if complete else (given.keys() - saved)
    wrong |= {key for key in missing if ".init_args." not in key}
    wrong.discard("model.network.init_args.num_classes")  # set to that of the data
    for key in sorted(wrong):
        option = key.removesuffix(".class_path").replace(".init_args", "")
        raise ValueError(
            f"--{option} {given.get(key)} conflicts with the checkpoint {source.path} "
            f"({saved.get(key)}); remove the option"
        )


def changed_settings(settings: dict[str, Any], saved: dict[str, Any]) -> str:
    """Names the settings of a resumed run that differ from its saved ones.

    Raises for one that changes the number of steps, which a one-cycle schedule must know.
    """
    before, after = _flatten(saved), _flatten(settings)
    changed = {key for key in before | after if before.get(key) != after.get(key)} - {"ckpt_path"}
    for key in LENGTH_KEYS:
        if key in changed and after.get("model.lr_schedule") == "one_cycle":
            raise ValueError(
                f"--{key} {after.get(key)} conflicts with the one_cycle schedule of the run, which "
                f"was made for {before.get(key)}; to train longer, start a new fit with this option"
            )
    return "".join(
        f", {key} {after.get(key, 'null')} instead of {before.get(key, 'null')}"
        for key in sorted(changed - {"debug"})
    )


def _flatten(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with dotted names as on the command line, such as ``data.batch_size``."""
    flat = flatten(settings)
    return {key.replace("data.init_args.", "data.", 1): value for key, value in flat.items()}
