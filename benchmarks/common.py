"""What the benchmarks share: paths, options, times, the machine, and the sections of pages."""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
README = ROOT / "README.md"
DOCS = ROOT / "docs"


class Section(NamedTuple):
    """The part of a page between two comments, which a program writes; both have its name."""

    page: Path
    name: str
    program: str  # its file

    def read(self) -> str:
        """The text between the comments."""
        return self._find()[0]

    def write(self, text: str) -> None:
        """Replaces the text between the comments."""
        found = self._find()
        self.page.write_text(found.string[: found.start()] + text + found.string[found.end() :])

    def _find(self) -> re.Match[str]:
        begin = f"<!-- {self.name}: written by benchmarks/{self.program} -->"
        end = f"<!-- end of {self.name} -->"
        found = re.search(f"(?<={begin}\n).*?(?={end})", self.page.read_text(), re.DOTALL)
        if found is None:
            raise ValueError(f"{self.page} has no {begin} ... {end}")
        return found


Texts = dict[Section, str]


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Formats a table; a column whose name ends with a colon is aligned right."""
    columns = list(columns)
    names = (name.removesuffix(":") for name in columns)
    rules = ("---:" if name.endswith(":") else "---" for name in columns)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (names, rules, *rows))


def create_parser(description: str | None) -> argparse.ArgumentParser:
    """The option of all programs that write sections."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="run nothing, write the pages only")
    return parser


def main(description: str | None, measure: Callable[[], None], texts: Callable[[], Texts]) -> None:
    """Runs a program without options of its own: measures, and writes its sections."""
    if not create_parser(description).parse_args().table:
        measure()
    write(texts())


def write(texts: Texts) -> None:
    """Writes the sections of a program."""
    for section, text in texts.items():
        section.write(text)


def prepare_data() -> Path:
    """Downloads the dataset to ``data`` in the current folder, if it is not there."""
    from fmnist_lightning.data.download import download  # plain PyTorch runs without this project

    data_dir = Path("data").absolute()
    download(data_dir)
    return data_dir


def machine() -> dict[str, Any]:
    """The hardware and the versions that a benchmark runs with."""
    import torch  # takes seconds, and most programs use this module without it

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = name[1] if name else model
    packages = ("torch", "torchvision", "lightning", "torchmetrics")
    return {
        "cpu": model,
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


def time_python(*args: str, folder: Path = ROOT, **kwargs: Any) -> float:
    """Runs Python with some arguments in a folder, and returns the seconds that it takes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    subprocess.run([sys.executable, *args], cwd=folder, env=environment, check=True, **kwargs)
    return round(time.perf_counter() - start, 3)


def baseline_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of the programs that are run next to this project's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    return parser


def read_arrays(data_dir: Path) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Images, float32, 0 to 1, (N, 28, 28, 1), and labels, int32: the first 48,000, the rest."""
    import numpy as np

    def read(name: str, start: int) -> Any:
        raw = data_dir / "FashionMNIST" / "raw" / f"train-{name}-ubyte"
        return np.frombuffer(raw.read_bytes(), np.uint8, offset=start)

    images = read("images-idx3", 16).reshape(-1, 28, 28, 1).astype(np.float32) / 255
    labels = read("labels-idx1", 8).astype(np.int32)
    num_train = len(labels) * 4 // 5
    return (images[:num_train], labels[:num_train]), (images[num_train:], labels[num_train:])


class Stopwatch:
    """Takes the times of a training for `speed.run_program`."""

    def __init__(self) -> None:
        self.epochs: list[list[float]] = []

    def start(self) -> None:
        """An epoch starts."""
        self.epochs.append([self._time()])

    def lap(self) -> None:
        """A part of an epoch ends: first its training, then its validation, then the rest."""
        if self.epochs:  # Lightning validates before the first, to check the code
            self.epochs[-1].append(self._time())

    def _time(self) -> float:
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # or the work of the GPU would go on
        return time.time()

    def write(self) -> None:
        """Ends the last epoch, and writes all times to the file that `speed.run_program` reads."""
        self.start()
        Path(os.environ["TIMES_FILE"]).write_text(json.dumps(self.epochs))
