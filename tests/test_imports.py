"""The layers of the package: imports point one way, and optional parts are imported lazily."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fmnist_lightning

PACKAGE = Path(fmnist_lightning.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = {"internals", "data", "models", "training", "runs"}
# Layer -> the layers it may import, when it is imported itself and inside functions.
LAYERS = {
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


def layer(path):
    return path.replace("/", ".").removesuffix(".py").split(".")[0]


def imports_of(tree):
    """All imports of this package in the code of a module, each with what it imports."""
    pairs = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            pairs += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module == "fmnist_lightning":  # `from fmnist_lightning import figures`
                pairs += [(node, f"fmnist_lightning.{alias.name}") for alias in node.names]
            else:
                pairs.append((node, node.module or ""))
    return [
        (node, name.removeprefix("fmnist_lightning."))
        for node, name in pairs
        if name.split(".")[0] == "fmnist_lightning"
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_lower_layers(path):
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {id(node) for function in functions for node, _ in imports_of(function)}
    own = layer(str(path.relative_to(PACKAGE)))
    eager, lazy = LAYERS[own]
    for node, target in imports_of(tree):
        allowed = eager | {own} | (lazy if id(node) in inside else set())
        assert layer(target) in allowed, target


def test_models_import_only_constants_of_the_data():
    for path in (PACKAGE / "models").glob("*.py"):
        for node, target in imports_of(ast.parse(path.read_text())):
            if layer(target) == "data":
                assert all(alias.name.isupper() for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 260
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_package_import_leaves_optional_dependencies_out():
    optional = ["cv2", "gradio", "onnx", "onnxruntime", "onnxscript", "timm"]
    optional += [f"fmnist_lightning.{part}" for part in ("figures", "photos", "reports")]
    optional += ["fmnist_lightning.demo", "fmnist_lightning.export"]
    code = f"import sys, fmnist_lightning.cli; print([m for m in {optional} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
