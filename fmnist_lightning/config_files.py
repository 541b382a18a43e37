"""Config files: those of this package by name, and which ones are read and written."""

import itertools
from enum import Enum
from pathlib import Path

import torch
import yaml
from jsonargparse import set_dumper
from jsonargparse.typing import register_type

from fmnist_lightning.internals.files import read_regular

MAX_SIZE, MAX_ALIASES = 2**20, 30  # nested aliases multiply: 30 give at most 3**10 values
FOLDER = Path(__file__).with_name("configs")  # in a wheel
if not FOLDER.is_dir():
    FOLDER = Path(__file__).parents[1] / "configs"  # in a clone
NAMED = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


class ConfigDumper(yaml.SafeDumper):
    """Writes what YAML has no type for, such as the ``Interval.step`` of ``Timer``, as text."""


ConfigDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))
ConfigDumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(str(value)))
register_type(torch.device)  # of StochasticWeightAveraging
set_dumper("yaml", lambda config: yaml.dump(config, Dumper=ConfigDumper, sort_keys=False))


def resolve_configs(args: list[str]) -> list[str]:
    """The arguments of a command line with the paths of the configs that ``--config`` names.

    Raises:
        ValueError: If there is no such config, or the parser would read it for ever, or into all
            memory.
    """
    resolved = list(args)
    for index, (option, value) in enumerate(itertools.pairwise([*args, ""])):
        if option == "--config" and index + 1 < len(args):
            resolved[index + 1] = str(_find(value))
        elif option.startswith("--config="):
            resolved[index] = f"--config={_find(option.removeprefix('--config='))}"
    return resolved


def _find(name: str) -> Path:
    path = Path(name) if Path(name).exists() else NAMED.get(name)
    if path is None:
        raise ValueError(f"there is no config {name}; this package has {', '.join(NAMED)}")
    try:
        events = list(yaml.parse(read_regular(path, MAX_SIZE)))
    except OSError as error:
        raise ValueError(f"{path}: {error}") from error
    except yaml.YAMLError:
        return path  # the parser says where
    if sum(isinstance(event, yaml.AliasEvent) for event in events) > MAX_ALIASES:
        raise ValueError(f"{path} has more than {MAX_ALIASES} YAML aliases (*name)")
    return path
