"""Configs and the classes that they name, merged in order before the parser sees them.

A class that replaces another one starts with its own defaults: no argument of the earlier class
reaches it.
"""

import argparse
import importlib
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from jsonargparse import get_loader
from jsonargparse.typing import register_type
from lightning.pytorch import Callback, callbacks, loggers
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer

from fmnist_lightning.cli.suggestions import closest
from fmnist_lightning.internals.specs import class_path

Settings = dict[str, Any]

CONFIG_DIR = Path(__file__).parents[1] / "configs"  # in a wheel
if not CONFIG_DIR.is_dir():
    CONFIG_DIR = Path(__file__).parents[2] / "configs"  # in a clone


def exported_classes(module: ModuleType, base: type) -> list[str]:
    """The paths of the subclasses of ``base`` that a module exports."""
    exported = [getattr(module, name) for name in module.__all__]
    classes = [value for value in exported if isinstance(value, type) and value is not base]
    return [class_path(cls) for cls in classes if issubclass(cls, base)]


# The options that name a class, with the classes that need no module in front of their name.
KNOWN_CLASSES = {
    "data": [
        "fmnist_lightning.FashionMNISTDataModule",
        "fmnist_lightning.ImageFolderDataModule",
    ],
    "model.network": [
        f"fmnist_lightning.{name}"
        for name in ("ArticleCNN", "MLP", "SmallResNet", "ResNetEnsemble", "PretrainedNetwork")
    ],
    "model.optimizer": exported_classes(torch.optim, Optimizer),
    "model.augmentation": [
        "fmnist_lightning.RandomAugmentation",
        "fmnist_lightning.photos.PhotoAugmentation",
    ],
    "trainer.logger": exported_classes(loggers, Logger),
    "trainer.callbacks": [*exported_classes(callbacks, Callback), "fmnist_lightning.Distillation"],
}

register_type(torch.device)  # of StochasticWeightAveraging
yaml.SafeDumper.add_multi_representer(  # for the Interval of Timer
    Enum, lambda dumper, value: dumper.represent_data(value.value)
)


def read_config(name: str) -> Settings:
    """Reads a config, by its name in this package or its path.

    Raises:
        ValueError: If there is none of that name, it can't be read, or it names an unknown class.
    """
    named = {path.stem: path for path in sorted(CONFIG_DIR.glob("*.yaml"))}
    path = Path(name) if Path(name).exists() else named.get(name)
    if path is None:
        choices = ", ".join(named)
        raise ValueError(f"unknown config {name!r}: choose one of {choices}, or give a path")
    try:
        settings = get_loader("yaml")(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
        if "ckpt_path" in settings:
            raise ValueError("give --ckpt_path on the command line")
        return expand(settings)
    except (OSError, ValueError, yaml.YAMLError, argparse.ArgumentError) as error:
        raise ValueError(f"{path} is not a config: {error}") from error


def expand(settings: Settings) -> Settings:
    """Settings in which classes have ``class_path`` and ``init_args``, where they were shorter."""
    for option, section, key in named_classes(settings):
        section[key] = expand_spec(option, section[key])
    return settings


def named_classes(settings: Settings) -> Iterator[tuple[str, Settings, str]]:
    """The options of settings that name a class, each with the section and the key it is at."""
    for option in KNOWN_CLASSES:
        group, _, key = option.rpartition(".")
        section = settings.get(group) if group else settings
        if isinstance(section, dict) and key in section:
            yield option, section, key


def expand_spec(option: str, value: Any) -> Any:
    """A class as ``class_path`` and ``init_args``, where an option or a config is shorter."""
    if isinstance(value, str):
        cls = find_class(option, value)
        path = class_path(cls)
        return {"class_path": path} if isinstance(cls, type) else path  # a function is itself
    if isinstance(value, dict) and "class_path" in value:
        return value | {"class_path": class_path(find_class(option, value["class_path"]))}
    if isinstance(value, dict) and "init_args" not in value:
        return {"init_args": value}
    return value


def find_class(option: str, name: str) -> Any:
    """The class or function that an option names.

    Raises:
        argparse.ArgumentError: If there is none; the message has the name that was meant.
    """
    known = {path.rpartition(".")[2]: path for path in KNOWN_CLASSES[option]}
    module, _, attribute = known.get(name, name).rpartition(".")
    meant = closest(attribute, known)
    problem = f"did you mean {meant}?" if meant else f"choose one of {', '.join(known)}."
    problem += " A class of your own needs its module: my_module.MyClass"
    if module:
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            problem = f"{error}; {problem}"
    raise argparse.ArgumentError(None, f"--{option} {name}: {problem}")


def merge(settings: Mapping[str, Any], other: Mapping[str, Any]) -> Settings:
    """Settings with others on top; a class that differs replaces the earlier one as a whole."""
    merged = dict(settings)
    for key, value in other.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            path = old.get("class_path")
            if value.get("class_path", path) == path:
                value = merge(old, value)
        merged[key] = value
    return merged
