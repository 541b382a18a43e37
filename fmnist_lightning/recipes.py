"""Describes how to build an object in plain types, and builds it from such a description.

A recipe is ``{"class_path": "package.module.Class", "init_args": {...}}``, the form that configs
have. It is what checkpoints hold in place of objects, so that they load with ``weights_only=True``.
"""

import functools
import importlib
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

TRUSTED_PACKAGES = ("fmnist_lightning", "torch.nn", "torch.optim", "torchvision.models")


def to_recipe(factory: Callable[..., Any]) -> dict[str, Any]:
    """Describes a class, or a ``functools.partial`` of one with keyword arguments.

    Args:
        factory: What to describe.

    Returns:
        The recipe.

    Raises:
        ValueError: If it is anything else, such as a lambda, which can't be written down.
    """
    cls: object = factory
    init_args: dict[str, Any] = {}
    if isinstance(factory, functools.partial):
        # jsonargparse makes partials of a function of its own, whose last argument is the class.
        cls = [factory.func, *factory.args][-1]
        init_args = {key: _plain(key, value) for key, value in factory.keywords.items()}
    if not isinstance(cls, type) or "<locals>" in cls.__qualname__:
        raise ValueError(
            f"cannot write down how to build {factory!r}; give a class that can be imported, or "
            "functools.partial(Class, argument=value)"
        )
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": init_args}


def from_recipe(recipe: dict[str, Any], trusted: Collection[str] = ()) -> Callable[..., Any]:
    """Imports the class of a recipe and binds its arguments.

    Args:
        recipe: See the module.
        trusted: Full class paths that may be imported besides those of ``TRUSTED_PACKAGES``.

    Returns:
        A ``functools.partial`` that builds the object.

    Raises:
        ValueError: If the recipe is malformed, or its class is not trusted, can't be imported, or
            is neither a network nor an optimiser.
    """
    check_recipe(recipe, trusted)
    module, _, name = recipe["class_path"].rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {recipe['class_path']}: {error}") from error
    if not isinstance(cls, type) or not issubclass(cls, nn.Module | Optimizer):
        raise ValueError(f"{recipe['class_path']} is neither an nn.Module nor an Optimizer")
    return functools.partial(cls, **recipe.get("init_args", {}))


def check_recipe(recipe: object, trusted: Collection[str] = ()) -> None:
    """Checks a recipe that may come from a stranger, without importing anything.

    Args:
        recipe: What to check.
        trusted: Full class paths that are allowed besides those of ``TRUSTED_PACKAGES``.

    Raises:
        ValueError: If it is malformed or names a class that is not trusted.
    """
    if not isinstance(recipe, dict) or not isinstance(recipe.get("class_path"), str):
        raise ValueError(f"expected a class_path with init_args, got {recipe!r}")
    class_path = recipe["class_path"]
    if class_path not in trusted and not class_path.startswith(
        tuple(f"{package}." for package in TRUSTED_PACKAGES)
    ):
        raise ValueError(
            f"the checkpoint names the class {class_path}, which is neither of this package nor of "
            "PyTorch; if you trust it, name it too: with --model.network, "
            "with --trust (shifts, export), or in code with trusted"
        )


def read_plain(path: Path, otherwise: str) -> Any:
    """Reads a file of tensors and plain types, without running code from it.

    Args:
        path: A file that ``torch.save`` wrote.
        otherwise: What to say of a file that is not one, such as ``holds no weights``.

    Returns:
        Its content, with tensors on the CPU.

    Raises:
        ValueError: If it is damaged, or holds anything else.
    """
    try:
        if zipfile.is_zipfile(path):  # torch.load does not look at the check sums
            with zipfile.ZipFile(path) as archive:
                if (name := archive.testzip()) is not None:
                    raise ValueError(f"the check sum of {name} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the reader may raise anything over a file of another kind
        raise ValueError(
            f"{path} {otherwise} that can be read safely: it is damaged, or holds more than "
            "tensors and plain types"
        ) from error


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Flattens nested settings, with dotted names.

    Args:
        nested: Plain values, dicts and lists.
        prefix: Put before each name.

    Returns:
        Numbers, truth values and texts by name; what is None is left out.
    """
    flat: dict[str, bool | int | float | str] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            known = isinstance(value, bool | int | float | str)
            flat[f"{prefix}{key}"] = value if known else str(value)
    return flat


def _plain(key: str, value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(key, item) for name, item in value.items()}
    raise ValueError(
        f"{key} is {value!r}; only numbers, text, lists and dicts can go into a checkpoint"
    )
