"""Class specs: how to build an object, as plain data that a checkpoint can hold.

A spec is ``{"class_path": "package.Class", "init_args": {...}}``, the form that configs have too.
Checkpoints hold specs in place of classes, so that they load with ``weights_only=True``. What a
spec names is imported only if it is allowed or trusted by name.

An argument that is a class or function is a spec as well: without ``init_args``, it is the class
itself; with ``init_args``, a ``functools.partial`` of it. All other arguments are data.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer

ALLOWED_PACKAGES = ("fmnist_lightning", "torch.nn", "torch.optim")
CLASS_KEY, ARGS_KEY = "class_path", "init_args"


def resolve(
    factory: Callable[..., Any] | dict[str, Any], num_classes: int | None = None
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A factory, such as a class, and its spec.

    Args:
        factory: A class or function, a ``functools.partial`` of one, or a spec.
        num_classes: Set as the argument of this name, if the class has it.
    """
    if isinstance(factory, dict):
        factory = from_spec(factory)
    if num_classes is not None:
        parameters = inspect.signature(_unwrap_partial(factory)).parameters
        if "num_classes" in parameters:
            factory = functools.partial(factory, num_classes=num_classes)
    return factory, to_spec(factory)


def to_spec(factory: Callable[..., Any]) -> dict[str, Any]:
    """The spec of a class or function, or of a ``functools.partial`` of one."""
    called = _unwrap_partial(factory)
    if not _is_importable(called):
        raise ValueError(
            f"a checkpoint can't store how to build {factory!r}; give a class or function that can "
            "be imported, or functools.partial of one with its arguments"
        )
    init_args: dict[str, Any] = {}
    if isinstance(factory, functools.partial):
        args = () if called is not factory.func else factory.args
        bound = inspect.signature(called).bind_partial(*args, **factory.keywords)
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            init_args |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    init_args = {name: _to_builtin(name, value) for name, value in init_args.items()}
    return {CLASS_KEY: class_path(called), ARGS_KEY: init_args}


def from_spec(spec: object, trusted: Collection[str] = ()) -> Callable[..., Any]:
    """The factory that a spec, maybe of an untrusted file, describes; see ``is_allowed``."""
    if (
        not isinstance(spec, dict)
        or not {CLASS_KEY} <= spec.keys() <= {CLASS_KEY, ARGS_KEY}
        or not isinstance(spec[CLASS_KEY], str)
        or not isinstance(spec.get(ARGS_KEY, {}), dict)
    ):
        raise ValueError(f"expected a class_path with init_args, got {spec!r}")
    factory: Callable[..., Any] = _import(spec[CLASS_KEY], trusted)
    if ARGS_KEY not in spec:
        return factory
    init_args = {name: _from_builtin(v, trusted) for name, v in spec[ARGS_KEY].items()}
    return functools.partial(factory, **init_args)


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
    """The class paths in a spec, those of its arguments included, that need ``--trust``."""
    for key, value in spec.items() if isinstance(spec, dict) else ():
        if key == CLASS_KEY and not is_allowed(value):
            yield value
        yield from find_untrusted(value)


def class_path(cls: Any) -> str:
    """The shortest import path of a class or function, such as ``torch.optim.SGD``."""
    parts, name = cls.__module__.split("."), cls.__qualname__
    for num in range(1, len(parts)):
        package = ".".join(parts[:num])
        if getattr(sys.modules.get(package), name, None) is cls:
            return f"{package}.{name}"
    return f"{cls.__module__}.{name}"


def _unwrap_partial(factory: Any) -> Any:
    """What a factory calls: a class or a function."""
    if not isinstance(factory, functools.partial):
        return factory
    # jsonargparse makes partials of a function of its own, whose last argument is the class.
    is_parsed = factory.func.__module__.startswith("jsonargparse.")
    return factory.args[-1] if is_parsed else factory.func


def _is_importable(value: Any) -> bool:
    """Whether a value is a class or function that can be imported."""
    name = getattr(value, "__qualname__", "<")
    return (isinstance(value, type) or inspect.isroutine(value)) and "<" not in name


def _import(path: str, trusted: Collection[str]) -> Any:
    """Imports a class of modules or optimizers, or a function, that is allowed or trusted."""
    require_trust({CLASS_KEY: path}, trusted)
    module, _, name = path.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {path}: {error}") from error
    is_class = isinstance(value, type) and issubclass(value, nn.Module | Optimizer)
    is_activation = inspect.isfunction(value) and value.__module__ == "torch.nn.functional"
    is_trusted_function = inspect.isroutine(value) and path in trusted
    if not is_class and not is_activation and not is_trusted_function:
        raise ValueError(f"{path} is neither an nn.Module nor an Optimizer")
    return value


def _to_builtin(key: str, value: object) -> Any:
    """An argument as built-in types, which is all that a checkpoint may hold."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_to_builtin(key, item) for item in value]
    if isinstance(value, dict) and CLASS_KEY not in value:
        return {str(name): _to_builtin(key, item) for name, item in value.items()}
    if _is_importable(value):
        return {CLASS_KEY: class_path(value)}
    if isinstance(value, functools.partial):
        return to_spec(value)
    raise ValueError(
        f"{key} is {value!r}; a checkpoint can store numbers, text, lists, dicts, and classes and "
        "functions that can be imported, with functools.partial for their arguments"
    )


def _from_builtin(value: object, trusted: Collection[str]) -> Any:
    """The inverse of ``_to_builtin``."""
    if isinstance(value, list):
        return [_from_builtin(item, trusted) for item in value]
    if not isinstance(value, dict):
        return value
    if CLASS_KEY in value:
        return from_spec(value, trusted)
    return {key: _from_builtin(item, trusted) for key, item in value.items()}
