"""What the benchmarks share: places, the machine, marked parts of pages, the style of charts."""

import argparse
import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
README = ROOT / "README.md"
DOCS = ROOT / "docs"


class Marks(NamedTuple):
    """The two comments of a page between which a program writes.

    Attributes:
        begin: The first comment, with its line break.
        end: The second.
    """

    begin: str
    end: str

    @classmethod
    def of(cls, name: str, program: str) -> "Marks":
        """The comments of what ``program`` writes."""
        return cls(f"<!-- {name}: written by benchmarks/{program} -->\n", f"<!-- end of {name} -->")

    def find(self, path: Path) -> str:
        """The text between the comments of a page.

        Raises:
            ValueError: If the page does not have them.
        """
        _, begin, rest = path.read_text().partition(self.begin)
        text, end, _ = rest.partition(self.end)
        if not (begin and end):
            raise ValueError(f"{path} has no {self.begin.strip()} ... {self.end}")
        return text

    def replace(self, path: Path, text: str) -> None:
        """Writes ``text`` between the comments of a page."""
        self.find(path)  # there is a place for it
        before, _, rest = path.read_text().partition(self.begin)
        path.write_text(before + self.begin + text + self.end + rest.partition(self.end)[2])


def machine() -> dict[str, Any]:
    """The hardware and the versions that a benchmark runs with."""
    import torch  # takes seconds, and most programs use this module without it

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = found[1] if found else model
    packages = ("torch", "torchvision", "lightning", "torchmetrics")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def describe_hardware(used: dict[str, Any]) -> str:
    """Formats the processors of the result of ``machine``."""
    gpu = f"one {used['gpu']} and " if used["gpu"] else ""
    return f"{gpu}{used['cores']} cores of an {used['cpu']}"


def describe_versions(used: dict[str, Any]) -> str:
    """Formats the versions of the result of ``machine``."""
    versions = {"Python": used["python"]} | used["versions"]
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def describe_machine(used: dict[str, Any]) -> str:
    """Formats the result of ``machine``."""
    return f"{describe_hardware(used)}, {describe_versions(used)}"


def save(path: Path, **content: Any) -> None:
    """Writes raw results, with the machine, as JSON."""
    first = {"command": content.pop("command")} if "command" in content else {}
    path.write_text(json.dumps(first | {"machine": machine()} | content, indent=1) + "\n")


def pyplot() -> Any:
    """Matplotlib in the style of these charts."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e4e4e4",
            "axes.axisbelow": True,
        }
    )
    return plt


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


def write_times(first_batch: float | None, epochs: list[dict[str, float]]) -> None:
    """Writes the times of a training to the file that `speed.measure` reads.

    Args:
        first_batch: When the first batch was ready, in seconds since 1970.
        epochs: For each epoch the seconds of its ``train`` and ``validation`` part and of the whole
            ``epoch``, and, where it is known, the validation ``accuracy``, 0 to 1.
    """
    assert first_batch is not None
    times = {"first_batch": first_batch, "epochs": epochs}
    Path(os.environ["TIMES_FILE"]).write_text(json.dumps(times))
