"""Compares the settings of a command with those that its checkpoint was trained with."""

from pathlib import Path
from typing import Any

import yaml

from fmnist_lightning.data.datamodule import SPLIT_KEYS
from fmnist_lightning.internals.specs import flatten

# What decides how many steps a run takes.
LENGTH_KEYS = (
    "data.batch_size",
    *("trainer.max_epochs", "trainer.max_steps"),
    *("trainer.limit_train_batches", "trainer.accumulate_grad_batches"),
)
IGNORED_KEYS = ("ckpt_path", "config", "debug")


def saved_split(checkpoint: dict[str, Any]) -> dict[str, int]:
    """The split of the data that a checkpoint was trained on; empty where it stores none."""
    hparams = checkpoint.get("datamodule_hyper_parameters")
    if not isinstance(hparams, dict):
        return {}
    return {key: hparams[key] for key in SPLIT_KEYS if type(hparams.get(key)) is int}


def check_compatible(
    settings: dict[str, Any], checkpoint: dict[str, Any], path: str, complete: bool
) -> None:
    """Checks that settings do not conflict with what a checkpoint was trained with.

    Args:
        settings: The config of the command, as plain values.
        checkpoint: The content of the checkpoint.
        path: Its file, for the message.
        complete: Whether the settings describe the whole model; if not, what they leave out is
            taken from the checkpoint.

    Raises:
        ValueError: If they conflict; the message names the option.
    """
    hparams = {key: value for key, value in checkpoint["hyper_parameters"].items()}
    hparams.pop("classes", None)  # comes from the data
    saved = flatten({"model": hparams, "data": saved_split(checkpoint)})
    given = {
        key: value
        for key, value in _flatten(settings).items()
        if key.startswith("model.") or (key in saved and key.startswith("data."))
    }
    wrong = [key for key in given if key in saved and given[key] != saved[key]]
    # Arguments of a class may be left out where they have their defaults.
    wrong += [key for key in given.keys() - saved if ".init_args." not in key]
    if complete:
        wrong += [key for key in saved.keys() - given if ".init_args." not in key]
    for key in sorted(wrong):
        raise ValueError(
            f"--{key.removesuffix('.class_path').replace('.init_args', '')} {given.get(key)} "
            f"conflicts with the checkpoint {path} ({saved.get(key)}); remove the option"
        )


def read_run_config(path: Path) -> dict[str, Any]:
    """The config that a ``fit`` saved, as plain values.

    Raises:
        ValueError: If the file is missing or is not the config of a run.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not the config of a run: {error}") from error
    if not isinstance(config, dict) or not {"model", "data", "trainer"} <= config.keys():
        raise ValueError(f"{path} is not the config of a run: it lacks model, data or trainer")
    return config


def check_length(settings: dict[str, Any], saved: dict[str, Any], path: str) -> None:
    """Checks that a resumed run with a one-cycle schedule still ends where it was meant to.

    Raises:
        ValueError: If a setting changes its number of steps.
    """
    before, after = _flatten(saved), _flatten(settings)
    if after.get("model.lr_schedule") != "one_cycle":
        return
    for key in LENGTH_KEYS:
        if before.get(key) != after.get(key):
            raise ValueError(
                f"--{key} {after.get(key)} conflicts with the checkpoint {path}, whose one_cycle "
                f"schedule was made for {before.get(key)}; remove the option"
            )


def describe_changes(settings: dict[str, Any], saved: dict[str, Any]) -> str:
    """The settings of a resumed run that differ from those it had, for the terminal."""
    before, after = _flatten(saved), _flatten(settings)
    return "".join(
        f", {key} {after.get(key, 'null')} instead of {before.get(key, 'null')}"
        for key in before | after
        if after.get(key) != before.get(key) and key not in IGNORED_KEYS
    )


def _flatten(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with dotted names as on the command line: ``data.batch_size``."""
    flat = flatten(settings)
    return {key.replace("data.init_args.", "data.", 1): value for key, value in flat.items()}
