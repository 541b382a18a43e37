"""Class specs: how to build an object, as plain data that a checkpoint can hold.

A spec is ``{"class_path": "package.Class", "init_args": {...}}``, the form that configs have too.
Checkpoints hold specs in place of classes, so that they load with ``weights_only=True``. What a
spec names is imported only if it is allowed or trusted by name.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection
from typing import Any

from torch import nn
from torch.optim import Optimizer

ALLOWED_PACKAGES = ("fmnist_lightning", "torch.nn", "torch.optim", "torchvision.models")


def with_argument(factory: Callable[..., Any], name: str, value: Any) -> Callable[..., Any]:
    """The factory with an argument set, if its class has it."""
    if name in inspect.signature(_find_class(factory)).parameters:
        return functools.partial(factory, **{name: value})
    return factory


def to_spec(factory: Callable[..., Any]) -> dict[str, Any]:
    """The spec of a class, or of a ``functools.partial`` of one with keyword arguments."""
    cls = _find_class(factory)
    init_args: dict[str, Any] = {}
    if isinstance(factory, functools.partial):
        init_args = {key: _to_builtin(key, value) for key, value in factory.keywords.items()}
    if not isinstance(cls, type) or "<locals>" in cls.__qualname__:
        raise ValueError(
            f"a checkpoint can't store how to build {factory!r}; give a class that can be "
            "imported, or functools.partial(Class, argument=value)"
        )
    return {"class_path": class_path(cls), "init_args": init_args}


def from_spec(spec: object, trusted: Collection[str] = ()) -> Callable[..., Any]:
    """The constructor that a spec, maybe of an untrusted file, describes; see ``is_allowed``."""
    if (
        not isinstance(spec, dict)
        or not {"class_path"} <= spec.keys() <= {"class_path", "init_args"}
        or not isinstance(spec["class_path"], str)
        or not isinstance(spec.get("init_args", {}), dict)
    ):
        raise ValueError(f"expected a class_path with init_args, got {spec!r}")
    path, init_args = spec["class_path"], spec.get("init_args", {})
    if path not in trusted and not is_allowed(path):
        raise ValueError(
            f"the checkpoint names the class {path}, which belongs neither to this package nor to "
            f"PyTorch; if you trust it, add --trust {path}, or in code trusted=[{path!r}]"
        )
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {path}: {error}") from error
    if not isinstance(cls, type) or not issubclass(cls, nn.Module | Optimizer):
        raise ValueError(f"{path} is neither an nn.Module nor an Optimizer")
    return functools.partial(
        cls, **{key: _to_builtin(key, value) for key, value in init_args.items()}
    )


def _find_class(factory: Any) -> Any:
    """The class, or whatever else a factory calls."""
    # jsonargparse makes partials of a function of its own, whose last argument is the class.
    if isinstance(factory, functools.partial):
        return [factory.func, *factory.args][-1]
    return factory


def is_allowed(path: str) -> bool:
    """Whether a class path belongs to one of ``ALLOWED_PACKAGES``."""
    return path.startswith(tuple(f"{package}." for package in ALLOWED_PACKAGES))


def class_path(cls: Any) -> str:
    """The shortest import path of a class or function, such as ``torch.optim.SGD``."""
    parts, name = cls.__module__.split("."), cls.__qualname__
    for num in range(1, len(parts)):
        package = ".".join(parts[:num])
        if getattr(sys.modules.get(package), name, None) is cls:
            return f"{package}.{name}"
    return f"{cls.__module__}.{name}"


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names; None is left out, lists become text."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = str(list(value)) if isinstance(value, list | tuple) else value
    return flat


def _to_builtin(key: str, value: object) -> Any:
    """A setting as built-in types, which is all that a checkpoint may hold."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_to_builtin(key, item) for item in value]
    if isinstance(value, dict):
        return {str(name): _to_builtin(key, item) for name, item in value.items()}
    raise ValueError(
        f"{key} is {value!r}; only numbers, text, lists and dicts can be stored in a checkpoint"
    )
