"""Class specs: how to build an object, as plain data that a checkpoint can hold.

A spec is ``{"class_path": "package.Class", "init_args": {...}}``, the form that configs have too.
Checkpoints hold specs in place of classes, so that they load with ``weights_only=True``. What a
spec names is imported only if it is allowed or trusted by name.

An argument that is a class or function is ``{"__class__": "package.Class"}``; one that is a module,
such as an activation, has ``init_args`` in addition. All other arguments are data.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torchvision import models

ALLOWED_PACKAGES = ("fmnist_lightning", "torch.nn", "torch.optim", "torchvision.models")
MARK = "__class__"  # of an argument that is to be imported


def with_argument(factory: Callable[..., Any], name: str, value: Any) -> Callable[..., Any]:
    """The factory with an argument set, if its class has it."""
    if name in inspect.signature(_find_class(factory)).parameters:
        return functools.partial(factory, **{name: value})
    return factory


def to_spec(factory: Callable[..., Any]) -> dict[str, Any]:
    """The spec of a class or function, or of a ``functools.partial`` of one."""
    called = _find_class(factory)
    if not _has_path(called):
        raise ValueError(
            f"a checkpoint can't store how to build {factory!r}; give a class or function that can "
            "be imported, or functools.partial of one with its arguments"
        )
    given: dict[str, Any] = {}
    if isinstance(factory, functools.partial):
        args = () if called is not factory.func else factory.args
        bound = inspect.signature(called).bind_partial(*args, **factory.keywords)
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            given |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    init_args = {name: _to_builtin(name, value) for name, value in given.items()}
    return {"class_path": class_path(called), "init_args": init_args}


def from_spec(spec: object, trusted: Collection[str] = ()) -> Callable[..., Any]:
    """The constructor that a spec, maybe of an untrusted file, describes; see ``is_allowed``."""
    if (
        not isinstance(spec, dict)
        or not {"class_path"} <= spec.keys() <= {"class_path", "init_args"}
        or not isinstance(spec["class_path"], str)
        or not isinstance(spec.get("init_args", {}), dict)
    ):
        raise ValueError(f"expected a class_path with init_args, got {spec!r}")
    path = spec["class_path"]
    found = _import(path, trusted)
    init_args = {k: _from_builtin(v, trusted) for k, v in spec.get("init_args", {}).items()}
    if path.startswith("torchvision.models."):  # weights come from the checkpoint
        init_args = {k: v for k, v in init_args.items() if not k.startswith("weights")}
    return functools.partial(found, **init_args)


def require_trust(spec: object, trusted: Collection[str]) -> None:
    """Raises ValueError for a spec of a checkpoint with a class that is not allowed or trusted."""
    for path in find_untrusted(spec):
        if path not in trusted:
            raise ValueError(
                f"the checkpoint names the class {path}, which belongs neither to this package nor "
                f"to PyTorch; if you trust it, add --trust {path}, or in code trusted=[{path!r}]"
            )


def find_difference(saved: Any, current: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Name and both values of the first setting that differs; what is not set is None."""
    if isinstance(saved, dict) and isinstance(current, dict):
        differences = (
            find_difference(saved.get(key), current.get(key), f"{name}.{key}".lstrip("."))
            for key in saved | current
        )
        return next((difference for difference in differences if difference), None)
    return None if saved == current else (name, saved, current)


def is_allowed(path: str) -> bool:
    """Whether a class path belongs to one of ``ALLOWED_PACKAGES``."""
    return path.startswith(tuple(f"{package}." for package in ALLOWED_PACKAGES))


def find_untrusted(spec: object) -> Iterator[str]:
    """The paths in a spec, arguments included, that are not allowed without trust."""
    for key, value in spec.items() if isinstance(spec, dict) else ():
        if key in ("class_path", MARK) and not is_allowed(value):
            yield value
        yield from find_untrusted(value)


def class_path(cls: Any) -> str:
    """The shortest import path of a class or function, such as ``torch.optim.SGD``."""
    parts, name = cls.__module__.split("."), cls.__qualname__
    if getattr(nn.functional, name, None) is cls:  # some are written in C, in a hidden module
        return f"torch.nn.functional.{name}"
    for num in range(1, len(parts)):
        package = ".".join(parts[:num])
        if getattr(sys.modules.get(package), name, None) is cls:
            return f"{package}.{name}"
    return f"{cls.__module__}.{name}"


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names; None is left out, lists become text."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and MARK in value:  # as configs have it
            path, init_args = value[MARK], value.get("init_args")
            value = path if init_args is None else {"class_path": path, "init_args": init_args}
        if _has_path(value):
            value = class_path(value)
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = str(list(value)) if isinstance(value, list | tuple) else value
    return flat


def _find_class(factory: Any) -> Any:
    """What a factory calls: a class or a function."""
    if not isinstance(factory, functools.partial):
        return factory
    # jsonargparse makes partials of a function of its own, whose last argument is the class.
    is_parsed = factory.func.__module__.startswith("jsonargparse.")
    return factory.args[-1] if is_parsed else factory.func


def _has_path(value: Any) -> bool:
    """Whether a value is a class or function that can be imported."""
    name = getattr(value, "__qualname__", "<")
    return (isinstance(value, type) or inspect.isroutine(value)) and "<" not in name


def _import(path: str, trusted: Collection[str]) -> Any:
    """Imports a class of modules or optimisers, or a function, that is allowed or trusted."""
    if path not in trusted and not is_allowed(path):
        raise ValueError(
            f"the checkpoint names the class {path}, which belongs neither to this package nor to "
            f"PyTorch; if you trust it, add --trust {path}, or in code trusted=[{path!r}]"
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {path}: {error}") from error
    is_class = isinstance(found, type) and issubclass(found, nn.Module | Optimizer)
    is_function = inspect.isroutine(found) and (
        path in trusted
        or (module == "torchvision.models" and name in models.list_models(models))
        or (module == "torch.nn.functional" and found.__module__ in (module, "torch._C._nn"))
    )
    if not is_class and not is_function:
        raise ValueError(f"{path} is neither an nn.Module nor an Optimizer")
    return found


def _to_builtin(key: str, value: object) -> Any:
    """An argument as built-in types, which is all that a checkpoint may hold."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_to_builtin(key, item) for item in value]
    if isinstance(value, dict) and MARK not in value:
        return {str(name): _to_builtin(key, item) for name, item in value.items()}
    if isinstance(value, Enum):
        return value.name
    if _has_path(value):
        return {MARK: class_path(value)}
    if isinstance(value, nn.Module) and _has_path(type(value)):
        names = inspect.signature(type(value)).parameters
        init_args = {name: getattr(value, name) for name in names if hasattr(value, name)}
        if not list(value.parameters()) and repr(type(value)(**init_args)) == repr(value):
            return {MARK: class_path(type(value)), "init_args": _to_builtin(key, init_args)}
    raise ValueError(
        f"{key} is {value!r}; a checkpoint can store numbers, text, lists, dicts, classes, "
        "functions, and modules without weights that have their arguments as attributes"
    )


def _from_builtin(value: object, trusted: Collection[str]) -> Any:
    """The inverse of ``_to_builtin``."""
    if isinstance(value, list):
        return [_from_builtin(item, trusted) for item in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {key: _from_builtin(item, trusted) for key, item in value.items()}
    path, init_args = value[MARK], value.get("init_args")
    if not isinstance(path, str) or not value.keys() <= {MARK, "init_args"}:
        raise ValueError(f"expected {MARK} with init_args, got {value!r}")
    if init_args is None:
        return _import(path, trusted)
    return from_spec({"class_path": path, "init_args": init_args}, trusted)()
