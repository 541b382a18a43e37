"""What the command line comes to, above all where it names a checkpoint, whose settings are first.

The network, the optimiser and the split that a checkpoint was trained with are parsed as a config
of its own, before the user's options; whatever the two disagree on is an error.
"""

import contextlib
import inspect
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fmnist_lightning.data.datamodule import SPLIT_KEYS
from fmnist_lightning.defaults import ROOT
from fmnist_lightning.internals.specs import ALLOWED_PACKAGES, check_spec, flatten
from fmnist_lightning.training import runs
from fmnist_lightning.training.checkpoint import SPEC_KEYS, check_trust, read_checkpoint

PATH_KEYS = ("data_dir", "default_root_dir")  # the settings that are names of folders
# What decides how many steps a run takes.
LENGTH_KEYS = {
    "data": ("batch_size",),
    "trainer": ("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches"),
}


class Origin(NamedTuple):
    """What ``--ckpt_path`` leads to.

    Attributes:
        path: The checkpoint file.
        checkpoint: Its content.
        run_dir: The folder of the run that it is from; None where it stands alone.
        resumes: Whether the run itself is to go on, which ``--ckpt_path last`` means.
        options: The settings it was trained with, as options to parse before the user's.
    """

    path: str
    checkpoint: dict[str, Any]
    run_dir: Path | None
    resumes: bool
    options: list[str]


def find_origin(options: list[str]) -> Origin | None:
    """Reads the checkpoint that the command line names, before the command line is parsed.

    Args:
        options: What stands after the subcommand.

    Returns:
        What was found, or None where no checkpoint is named.

    Raises:
        ValueError: If there is no such checkpoint, or it can't be trusted.
    """
    path = _peek(options, "ckpt_path")
    if path is None:
        return None
    root = Path(_peek(options, "trainer.default_root_dir") or ROOT)
    # A class from elsewhere is imported only where the user names it, by whichever option.
    trusted = {text for option in options for text in option.split("=", 1)}
    resumes = path == "last"
    configs = []
    if resumes:
        run_dir: Path | None = runs.latest_run_dir(root)
        assert run_dir is not None
        configs = ["--config", json.dumps(_read_config(run_dir / "config.yaml", trusted))]
        path = str(run_dir / runs.CHECKPOINTS / "last.ckpt")
    else:
        run_dir = runs.find_run_dir(Path(path), root)
    checkpoint = read_checkpoint(path)
    check_trust(checkpoint, trusted)
    split = checkpoint.get("datamodule_hyper_parameters", {})
    trained = {
        "model": checkpoint["hyper_parameters"],
        "data": {key: split[key] for key in SPLIT_KEYS if key in split},
    }
    configs += ["--config", json.dumps(trained)]
    return Origin(path, checkpoint, run_dir, resumes, configs)


def _read_config(path: Path, trusted: Collection[str]) -> dict[str, Any]:
    """Reads the config of a run that goes on, without what its checkpoint knows better.

    Raises:
        ValueError: If it is damaged, or could lead to code that is not trusted.
    """
    try:
        config = yaml.safe_load(path.read_text())
        parts = {key: config[key] for key in ("seed_everything", "trainer", "data")}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the config of a run: {error}") from error
    _check_config(parts, path, trusted)
    return parts


def _check_config(part: Any, path: Path, trusted: Collection[str], key: str = "") -> None:
    """Checks that no part of a run's config could stand for code that is not trusted."""
    if isinstance(part, dict) and "class_path" in part:
        check_spec(part, trusted, (*ALLOWED_PACKAGES, "lightning.pytorch"))
    elif isinstance(part, dict | list):
        pairs = part.items() if isinstance(part, dict) else ((key, each) for each in part)
        for name, value in pairs:
            _check_config(value, path, trusted, name)
    elif isinstance(part, str) and not (key in PATH_KEYS or re.fullmatch(r"[\w-]*", part)):
        raise ValueError(f"{path} has {part!r} as {key}, which could stand for code")


def check_agreement(origin: Origin, trained: Any, given: Any) -> None:
    """Checks that the user's options contradict nothing that the checkpoint was trained with.

    Args:
        origin: The checkpoint.
        trained: The config that the checkpoint's settings come to.
        given: The config that the user's options on top of them come to.

    Raises:
        ValueError: If they do; it names the option.
    """
    # A one_cycle run that is resumed must end where it meant to.
    length = origin.resumes and given.model.lr_schedule == "one_cycle"
    expected, found = _settings(trained, length), _settings(given, length)
    for key in expected | found:
        if found.get(key) != expected.get(key):
            raise ValueError(
                f"--{key} {found.get(key)} contradicts the checkpoint {origin.path}, whose "
                f"training has {expected.get(key)}; leave it out"
            )


def changes(trained: Any, given: Any) -> list[str]:
    """Names the options that change a run which is resumed.

    Args:
        trained: The config that it had.
        given: The config that the user's options on top of it come to.

    Returns:
        A text for each.
    """
    before, after = (flatten(config.as_dict()) for config in (trained, given))
    return [
        f", {key} {after.get(key, 'null')} instead of {before.get(key, 'null')}"
        for key in before | after
        if after.get(key) != before.get(key)
        and key not in ("ckpt_path", "config", "debug", "trust")
    ]


def refuse_null(name: str, cls: type, settings: dict[str, Any]) -> None:
    """Refuses what is null though its default is not, which the parser lets through in configs.

    Args:
        name: Of the group of settings, as on the command line.
        cls: What they build.
        settings: By name.

    Raises:
        ValueError: If there is such a setting, of the class or of one that it is built with.
    """
    parameters = inspect.signature(cls).parameters
    for key, value in settings.items():
        default = parameters[key].default if key in parameters else None
        if value is None and default is not None:
            raise ValueError(f"--{name}.{key} must not be null; it has a default to leave it at")
        if key in SPEC_KEYS and value:
            spec = {"init_args": {}, **value}
            part = check_spec(spec, [spec["class_path"]])
            refuse_null(f"{name}.{key}", part, spec["init_args"])


def _settings(config: Any, length: bool) -> dict[str, Any]:
    """The settings that must not change, as plain values by dotted name."""
    nested: dict[str, dict[str, Any]] = {
        "model": config.model.as_dict(),
        "data": {key: config.data[key] for key in SPLIT_KEYS},
        "trainer": {},
    }
    if length:
        for part, keys in LENGTH_KEYS.items():
            nested[part] |= {key: config[part][key] for key in keys}
    return flatten(nested)


def _peek(options: list[str], key: str) -> str | None:
    """Looks an option up before the real parser runs, also in the config files named."""
    value = None
    for index, option in enumerate(options):
        name, equals, text = option.partition("=")
        if not equals:
            text = options[index + 1] if index + 1 < len(options) else ""
        if name == f"--{key}":
            value = text
        elif name in ("--config", "-c"):
            # What is wrong with the file is for the real parser to print_line.
            with contextlib.suppress(OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
                found = yaml.safe_load(Path(text).read_text())
                for part in key.split("."):
                    found = found[part]
                value = found if found is None else str(found)
    return None if value == "null" else value
