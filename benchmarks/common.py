"""What the benchmarks share: paths, options, times, the machine, and the sections of pages."""

import argparse
import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
README = ROOT / "README.md"
DOCS = ROOT / "docs"


class Section(NamedTuple):
    """The part of a page between two comments that have its name; a program writes it."""

    page: Path
    name: str

    def read(self) -> str:
        """The text between the comments."""
        return self._split()[1]

    def write(self, text: str) -> None:
        """Replaces the text between the comments."""
        before, _, after = self._split()
        self.page.write_text(before + text + after)

    def _split(self) -> tuple[str, ...]:
        begin, end = f"<!-- {self.name}: written by .*? -->\n", f"<!-- end of {self.name} -->"
        found = re.fullmatch(f"(.*{begin})(.*?)({end}.*)", self.page.read_text(), re.DOTALL)
        assert found, f"{self.page} has no section {self.name}"
        return found.groups()


Texts = dict[Section, str]


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Formats a table; a column whose name ends with a colon is aligned right."""
    columns = list(columns)
    names = (name.removesuffix(":") for name in columns)
    rules = ("---:" if name.endswith(":") else "---" for name in columns)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (names, rules, *rows))


def main(description: str | None, measure: Callable[..., None], texts: Callable[[], Texts]) -> None:
    """Runs a program: measures with the arguments that are given, and writes its sections."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="run nothing, write the pages only")
    parser.add_argument("arguments", nargs="*", help="see above")
    args = parser.parse_args()
    if not args.table:
        measure(*args.arguments)
    for section, text in texts().items():
        section.write(text)


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    """A temporary folder with the dataset in ``data``: that of the current folder, downloaded."""
    from fmnist_lightning.data.download import download  # plain PyTorch runs without this project

    download("data")
    with tempfile.TemporaryDirectory() as name:
        Path(name, "data").symlink_to(Path("data").absolute())
        yield Path(name)


def run_python(folder: Path, *args: str) -> float:
    """Runs Python with some arguments in a folder, and returns the seconds that it takes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    subprocess.run([sys.executable, *args], cwd=folder, env=environment, check=True)
    return round(time.perf_counter() - start, 3)


def run_command(folder: Path, *args: str) -> float:
    """Runs a command of this project in a folder, and returns the seconds that it takes."""
    return run_python(folder, "-m", "fmnist_lightning", *args)


def evaluate(folder: Path, stage: str, checkpoint: str) -> dict[str, Any]:
    """Runs ``validate`` or ``test`` in a folder of at most one run, and returns what it saves."""
    run_command(folder, stage, "--ckpt_path", checkpoint)
    (path,) = folder.glob(f"runs/*/{stage}.json")
    summary: dict[str, Any] = json.loads(path.read_text())
    return summary


def machine() -> dict[str, Any]:
    """The hardware and the versions that a benchmark runs with."""
    import torch  # takes seconds, and most programs use this module without it

    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    packages = ("torch", "torchvision", "lightning", "torchmetrics")
    return {
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def describe_hardware(machine: dict[str, Any]) -> str:
    """Formats the processors of the result of ``machine``."""
    gpu = f"one {machine['gpu']} and " if machine["gpu"] else ""
    return f"{gpu}{machine['cores']} cores of an {machine['cpu']}"


def describe_versions(machine: dict[str, Any]) -> str:
    """Formats the versions of the result of ``machine``."""
    versions = {"Python": machine["python"]} | machine["versions"]
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def describe_machine(machine: dict[str, Any]) -> str:
    """Formats the result of ``machine``."""
    return f"{describe_hardware(machine)}, {describe_versions(machine)}"


def save(path: Path, **content: Any) -> None:
    """Writes raw results, with the machine, as JSON."""
    path.write_text(json.dumps({"machine": machine()} | content, indent=1) + "\n")


def read_arrays() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Images, float32, 0 to 1, (N, 28, 28, 1), and labels, int32: the first 48,000, the rest."""
    import numpy as np

    def read(name: str, start: int) -> Any:
        path = Path("data", "FashionMNIST", "raw", f"train-{name}-ubyte")
        return np.frombuffer(path.read_bytes(), np.uint8, offset=start)

    images = read("images-idx3", 16).reshape(-1, 28, 28, 1).astype(np.float32) / 255
    labels = read("labels-idx1", 8).astype(np.int32)
    num_train = len(labels) * 4 // 5
    return (images[:num_train], labels[:num_train]), (images[num_train:], labels[num_train:])
