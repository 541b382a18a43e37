"""The layers of the package: imports point one way, and optional parts are imported lazily."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import fmnist_lightning

PACKAGE = Path(fmnist_lightning.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = {"internals", "data", "models", "training", "runs"}
# Layer -> the layers it may import, when it is imported itself and inside functions.
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "internals": (set(), set()),
    "data": ({"internals"}, set()),
    "figures": ({"data"}, set()),
    "models": ({"internals", "data"}, set()),
    "training": ({"internals", "data", "models"}, {"figures"}),
    "runs": ({"internals", "data", "models", "training"}, set()),
    "distillation": (CORE, set()),
    "photos": (CORE, {"figures"}),
    "reports": (CORE, {"figures"}),
    "export": (CORE, set()),
    "demo": (CORE | {"photos"}, {"figures"}),
    "trainer": (CORE, {"reports"}),
    "cli": (CORE | {"__version__", "trainer"}, {"photos", "reports", "demo", "export"}),
    "__main__": (CORE | {"cli"}, set()),
    "__init__": (CORE | {"distillation", "trainer"}, set()),
}


class Import(NamedTuple):
    """An import of a module of this package."""

    source: str  # importing file, such as "runs/runs.py"
    target: str  # imported module, such as "internals.files"
    names: tuple[str, ...]
    lazy: bool  # inside a function


def layer(path: str) -> str:
    return path.replace("/", ".").removesuffix(".py").split(".")[0]


def imports_of(tree: ast.Module, source: str) -> list[Import]:
    """All imports of this package in the code of a module."""
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            pairs = [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            names = tuple(alias.name for alias in node.names)
            if node.module == "fmnist_lightning":  # `from fmnist_lightning import figures`
                pairs = [(f"fmnist_lightning.{name}", ()) for name in names]
            else:
                pairs = [(node.module or "", names)]  # type: ignore[list-item]
        else:
            continue
        for module, names in pairs:
            if module.split(".")[0] == "fmnist_lightning":
                target = module.removeprefix("fmnist_lightning.")
                found.append(Import(source, target, names, id(node) in inside))
    return found


def violations(imports: list[Import]) -> list[str]:
    """The imports that the layers do not allow."""
    found = []
    for each in imports:
        own, other = layer(each.source), layer(each.target)
        eager, lazy = LAYERS[own]
        if other != own and other not in eager and not (each.lazy and other in lazy):
            found.append(f"{each.source} imports {each.target}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_lower_layers(path: Path) -> None:
    source = str(path.relative_to(PACKAGE))
    assert not violations(imports_of(ast.parse(path.read_text()), source))


def test_layers_are_all_used() -> None:
    assert set(LAYERS) == {layer(str(path.relative_to(PACKAGE))) for path in MODULES}


def test_models_import_only_constants_of_the_data() -> None:
    for path in (PACKAGE / "models").glob("*.py"):
        for each in imports_of(ast.parse(path.read_text()), f"models/{path.name}"):
            if layer(each.target) == "data":
                assert each.names
                assert all(name.isupper() for name in each.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 260
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_package_import_leaves_optional_dependencies_out() -> None:
    optional = ["cv2", "gradio", "onnx", "onnxruntime", "onnxscript", "timm"]
    optional += [f"fmnist_lightning.{part}" for part in ("figures", "photos", "reports")]
    optional += ["fmnist_lightning.demo", "fmnist_lightning.export"]
    code = f"import sys, fmnist_lightning.cli; print([m for m in {optional} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
