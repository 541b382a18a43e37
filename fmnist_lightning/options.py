"""Helpers for reading the command line: what it says before it is parsed, and what it comes to."""

import contextlib
from pathlib import Path
from typing import Any

import yaml

from fmnist_lightning.datamodule import SPLIT_KEYS
from fmnist_lightning.recipes import flatten

# What decides how many steps a run takes.
LENGTH_KEYS = {
    "data": ("batch_size",),
    "trainer": ("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches"),
}


def peek(options: list[str], key: str) -> str | None:
    """Looks an option up before the real parser runs, also in the config files named.

    Args:
        options: What stands after the subcommand.
        key: Dotted name.

    Returns:
        The last value given, or None.
    """
    value = None
    for index, option in enumerate(options):
        name, equals, text = option.partition("=")
        if not equals:
            text = options[index + 1] if index + 1 < len(options) else ""
        if name == f"--{key}":
            value = text
        elif name in ("--config", "-c"):
            # What is wrong with the file is for the real parser to say.
            with contextlib.suppress(OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
                found = yaml.safe_load(Path(text).read_text())
                for part in key.split("."):
                    found = found[part]
                value = found if found is None else str(found)
    return None if value == "null" else value


def settings(config: Any, *, length: bool = False) -> dict[str, Any]:
    """The settings that make a run what it is.

    Args:
        config: The parsed config of a subcommand.
        length: Adds those that decide how many steps the run takes.

    Returns:
        Plain values by dotted name; those that are None are left out.
    """
    nested = {
        "model": config.model.as_dict(),
        "data": {key: config.data[key] for key in SPLIT_KEYS},
        "trainer": {},
    }
    if length:
        for part, keys in LENGTH_KEYS.items():
            nested[part] |= {key: config[part][key] for key in keys}
    return flatten(nested)
