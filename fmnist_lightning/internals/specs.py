"""Describes how to build an object in plain types, and builds it from such a description.

A spec is ``{"class_path": "package.module.Class", "init_args": {...}}``, the form that configs
have. It is what checkpoints hold in place of objects, so that they load with ``weights_only=True``.
"""

import functools
import importlib
import inspect
import types
import typing
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

ALLOWED_PACKAGES = ("fmnist_lightning", "torch.nn", "torch.optim", "torchvision.models")


def to_spec(factory: Callable[..., Any]) -> dict[str, Any]:
    """Describes a class, or a ``functools.partial`` of one with keyword arguments.

    Args:
        factory: What to describe.

    Returns:
        The spec.

    Raises:
        ValueError: If it is anything else, such as a lambda, which can't be written down, or
            :func:`check_spec` would refuse it.
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
    spec = {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": init_args}
    check_spec(spec, trusted=[str(spec["class_path"])])  # or the checkpoint could not be read
    return spec


def from_spec(spec: dict[str, Any], trusted: Collection[str] = ()) -> Callable[..., Any]:
    """Imports the class of a spec and binds its arguments.

    Args:
        spec: See the module.
        trusted: Full class paths that may be imported besides those of ``ALLOWED_PACKAGES``.

    Returns:
        A ``functools.partial`` that builds the object.

    Raises:
        ValueError: If :func:`check_spec` refuses it, or its class is neither a network nor an
            optimiser.
    """
    cls = check_spec(spec, trusted)
    if not issubclass(cls, nn.Module | Optimizer):
        raise ValueError(f"{spec['class_path']} is neither an nn.Module nor an Optimizer")
    return functools.partial(cls, **spec.get("init_args", {}))


def check_spec(
    spec: object,
    trusted: Collection[str] = (),
    packages: Collection[str] = ALLOWED_PACKAGES,
) -> type:
    """Checks a spec that may come from a stranger; only what is trusted is imported.

    Args:
        spec: What to check.
        trusted: Full class paths that are allowed besides those of ``packages``.
        packages: All classes of these are allowed.

    Returns:
        Its class.

    Raises:
        ValueError: If it is malformed, its class is not trusted or can't be imported, or an
            argument could lead the command line to import something else.
    """
    if (
        not isinstance(spec, dict)
        or not isinstance(spec.get("class_path"), str)
        or not isinstance(spec.get("init_args", {}), dict)
    ):
        raise ValueError(f"expected a class_path with init_args, got {spec!r}")
    class_path = spec["class_path"]
    if class_path not in trusted and not is_allowed(packages, class_path):
        raise ValueError(
            f"the checkpoint or its run names the class {class_path}, which is neither of this "
            f"package nor of PyTorch; if you trust it, add --trust {class_path}, or in code "
            f"trusted=[{class_path!r}]"
        )
    module, _, name = class_path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {class_path}: {error}") from error
    if not isinstance(cls, type):
        raise ValueError(f"{class_path} is not a class")
    annotations, parameters = _annotations_of(cls), inspect.signature(cls).parameters
    for key, value in spec.get("init_args", {}).items():
        default = parameters[key].default if key in parameters else None
        if inspect.isfunction(default):
            default = f"{default.__module__}.{default.__name__}"  # as configs have it
        if not (value == default or _is_number(value) or _is_builtin_type(annotations.get(key))):
            raise ValueError(
                f"{key} of {class_path} is {value!r}, which could stand for code: only numbers "
                "are taken there, as it is not annotated as text, or a list or dict of plain types"
            )
    return cls


def is_allowed(packages: Collection[str], class_path: str) -> bool:
    """Whether a class is in one of the packages, by its name."""
    return class_path.startswith(tuple(f"{package}." for package in packages))


def _annotations_of(cls: type) -> dict[str, Any]:
    """The annotations of what a class is built with."""
    try:
        return typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except (NameError, TypeError):  # they name what is imported for type checkers only
        return {}


def _is_number(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_number, value))
    return value is None or isinstance(value, bool | int | float)


def _is_builtin_type(annotation: Any) -> bool:
    """Whether an annotation leaves no room for an object, which a text or dict could stand for."""
    if annotation in (str, Path, bool, int, float, type(None)):
        return True
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return True
    plain = (typing.Union, types.UnionType, list, tuple, dict, Sequence, Mapping)
    return origin in plain and all(_is_builtin_type(each) for each in parts if each is not ...)


def safe_load(path: Path, otherwise: str) -> Any:
    """Reads a file of tensors and plain types, without running code from it.

    Args:
        path: A file that ``torch.save`` wrote.
        otherwise: What to say of a file that is not one, such as ``holds no weights``.

    Returns:
        Its content, with tensors on the CPU.

    Raises:
        OSError: If it can't be opened.
        ValueError: If it is damaged, or holds anything else.
    """
    with path.open("rb"):  # what the system says of it, rather than the readers
        pass
    try:
        if zipfile.is_zipfile(path):  # torch.load does not look at the check sums
            with zipfile.ZipFile(path) as archive:
                if (name := archive.testzip()) is not None:
                    raise ValueError(f"the check sum of {name} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a reader may raise anything over a file of another kind
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
