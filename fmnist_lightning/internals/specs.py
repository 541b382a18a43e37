"""Class specs: how to build an object, as plain data that a checkpoint can hold.

A spec is ``{"class_path": "package.Class", "init_args": {...}}``, the form that configs have too.
What a spec names is imported only if it is allowed or trusted by name.

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

ALLOWED = ("fmnist_lightning.", "torch.nn.", "torch.optim.")  # beginnings of class paths


def resolve(factory: Any, num_classes: int | None = None) -> tuple[Any, Any]:
    """A factory, given as such or as its spec, with ``num_classes`` if it can; and its spec.

    That of None builds None.
    """
    if factory is None:
        return lambda: None, None
    factory = from_spec(factory)
    if num_classes and "num_classes" in inspect.signature(_unwrap_partial(factory)).parameters:
        factory = functools.partial(factory, num_classes=num_classes)
    return factory, to_spec(factory)


def to_spec(factory: Callable[..., Any]) -> dict[str, Any]:
    """The spec of a class or function, or of a ``functools.partial`` of one, with its defaults."""
    called = _unwrap_partial(factory)
    is_named = isinstance(called, type) or inspect.isfunction(called)
    if not is_named or "<" in called.__qualname__:
        raise ValueError(
            f"a checkpoint can't store {factory!r}; it can store numbers, text, lists, dicts, and "
            "classes and Python functions that can be imported, or functools.partial of them"
        )
    parameters = inspect.signature(called).parameters
    init_args = {
        name: parameter.default
        for name, parameter in parameters.items()
        if isinstance(parameter.default, bool | int | float | str | list | tuple | None)
    }
    if isinstance(factory, functools.partial):
        args = factory.args if called is factory.func else ()
        init_args |= dict(zip(parameters, args, strict=False)) | factory.keywords
    init_args = {name: _to_data(value) for name, value in init_args.items()}
    return {"class_path": class_path(called), "init_args": init_args}


def _to_data(value: Any) -> Any:
    """An argument as data, which is all that a checkpoint may hold."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, list | tuple):
        return [_to_data(item) for item in value]
    if isinstance(value, dict) and "class_path" not in value:
        return {key: _to_data(item) for key, item in value.items()}
    spec = to_spec(value)
    return spec if isinstance(value, functools.partial) else {"class_path": spec["class_path"]}


def from_spec(data: Any, trusted: Collection[str] = ()) -> Any:
    """Data, maybe of an untrusted file, in which each spec is replaced by what it describes.

    Raises ValueError for a class that is not allowed or trusted, before it is imported.
    """
    if isinstance(data, list):
        return [from_spec(item, trusted) for item in data]
    if not isinstance(data, dict):
        return data
    items = {key: from_spec(item, trusted) for key, item in data.items()}
    if "class_path" not in data:
        return items
    init_args = items.get("init_args", {})
    if not data.keys() <= {"class_path", "init_args"} or not isinstance(init_args, dict):
        raise ValueError(f"expected a class_path with init_args, got {data!r}")
    factory = _import(data["class_path"], trusted)
    return functools.partial(factory, **init_args) if "init_args" in data else factory


def require_trust(data: object, trusted: Collection[str]) -> None:
    """Raises ValueError for data of a checkpoint with a class that is not allowed or trusted."""
    for path in find_untrusted(data):
        if path not in trusted:
            raise ValueError(
                f"the checkpoint names the class {path}, which belongs neither to this package nor "
                f"to PyTorch; if you trust it, add --trust {path}, or in code trusted=[{path!r}]"
            )


def find_untrusted(data: object) -> Iterator[str]:
    """The class paths in data that need ``--trust``."""
    if isinstance(data, dict):
        if "class_path" in data and not str(data["class_path"]).startswith(ALLOWED):
            yield str(data["class_path"])
        data = list(data.values())
    for item in data if isinstance(data, list | tuple) else ():
        yield from find_untrusted(item)


def _import(path: object, trusted: Collection[str]) -> Any:
    """Imports a module class, an optimizer or an activation, or what is trusted."""
    require_trust({"class_path": path}, trusted)
    module, _, name = str(path).rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import {path}: {error}") from error
    is_class = isinstance(value, type) and issubclass(value, nn.Module | Optimizer)
    is_activation = inspect.isfunction(value) and value.__module__ == "torch.nn.functional"
    if not is_class and not is_activation and path not in trusted:
        raise ValueError(f"{path} is neither an nn.Module nor an Optimizer")
    return value


def find_difference(saved: Any, current: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first of the saved settings that differs: its name as of an option, and both values."""
    if isinstance(saved, dict) and isinstance(current, dict):
        names = {key: f"{name}.{key}".lstrip(".") for key in saved}
        names |= {"class_path": name, "init_args": name}
        differences = (
            find_difference(value, current.get(key), names[key]) for key, value in saved.items()
        )
        return next((difference for difference in differences if difference), None)
    return None if saved == current else (name, saved, current)


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
