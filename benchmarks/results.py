"""Trains the rows of the README's table of results, saves their figures, and writes the table.

Every seed is a `fit`, a `validate` and a `test` by the command line, as a user would run them, in
an empty folder of its own. `python benchmarks/results.py` runs all rows, `... article` one of them,
and `... --table` runs nothing and writes table and headers from what is saved.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from fmnist_lightning import load_classifier, sources

ROOT = Path(__file__).parent.parent
SAVED = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
MARKS = "<!-- results: written by benchmarks/results.py -->\n", "<!-- end of results -->\n"
# Each row: the options of `fit` behind it, and its seeds.
ROWS: dict[str, tuple[list[str], range]] = {
    "default": ([], range(3)),
    "article": (["--config", "configs/article.yaml"], range(3)),
    "smoke": (["--config", "configs/smoke.yaml"], range(1)),
}


def command_line(options: list[str]) -> str:
    """The command that the README gives for a row."""
    return " ".join(["python -m fmnist_lightning fit", *options])


def run_seed(options: list[str], seed: int, data_dir: Path) -> dict[str, Any]:
    """Trains and tests one seed, and gives its figures."""
    here = [str(ROOT / option) if option.endswith(".yaml") else option for option in options]
    data = ["--data.data_dir", str(data_dir)]
    with tempfile.TemporaryDirectory() as folder:

        def cli(*arguments: str) -> float:
            start = time.perf_counter()
            program = [sys.executable, "-m", "fmnist_lightning", *arguments, *data]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            subprocess.run(program, cwd=folder, env=environment, check=True)
            return time.perf_counter() - start

        seconds = cli("fit", *here, "--seed_everything", str(seed))
        best = Path(folder, "best.ckpt")
        cli("validate", "--ckpt_path", "best.ckpt")
        cli("test", "--ckpt_path", "best.ckpt")
        run = best.resolve().parent.parent
        figures = {
            name: json.loads((run / f"{name}.json").read_text()) for name in ("validate", "test")
        }
        network = load_classifier(best).network
        return {
            "seed": seed,
            "fit_seconds": round(seconds, 1),
            "epochs": yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            **figures,
        }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
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


def machine_text(used: dict[str, Any]) -> str:
    """What ``machine`` gave, for a sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in used["versions"].items())
    return f"{used['cores']} cores of an {used['cpu']}, Python {used['python']}, {versions}"


def replace_between(path: Path, marks: tuple[str, str], text: str) -> None:
    """Puts ``text`` between two marks of a page."""
    before, _, rest = path.read_text().partition(marks[0])
    _, _, after = rest.partition(marks[1])
    path.write_text(before + marks[0] + text + marks[1] + after)


def summarize(saved: dict[str, Any]) -> dict[str, str]:
    """The figures of a row as text."""
    runs = saved["runs"]
    seconds = statistics.mean(run["fit_seconds"] for run in runs)
    figures = {
        "parameters": f"{runs[0]['parameters']:,}",
        "epochs": str(runs[0]["epochs"]),
        "seconds": f"{seconds:.0f} s",
    }
    for name in ("validate", "test"):
        values = [100 * run[name]["accuracy"] for run in runs]
        mean = f"{statistics.mean(values):.2f}"
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        figures[name] = f"{mean}{spread}"
        figures[f"{name}_seeds"] = ", ".join(f"{value:.2f}" for value in values)
    return figures


def load() -> dict[str, dict[str, Any]]:
    """The saved rows, in the order of ``ROWS``."""
    paths = {name: SAVED / f"{name}.json" for name in ROWS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The README's table."""
    lines = [
        "| | parameters | epochs | whole `fit` | validation % | test % (each seed) | command |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, saved in rows.items():
        row = summarize(saved)
        cells = [
            name,
            *(row[key] for key in ("parameters", "epochs", "seconds", "validate")),
            f"**{row['test']}** ({row['test_seeds']})",
            f"`{saved['command']}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    used = machine_text(next(iter(rows.values()))["machine"])
    lines.append(
        f"\nMean ± standard deviation over the seeds; {used}. Seconds are of the whole command, "
        "start to end, with validation, dashboard and checkpoints, the data already there."
    )
    return "\n".join(lines) + "\n"


def header(saved: dict[str, Any]) -> str:
    """The line of a config that says what it gives."""
    row, runs = summarize(saved), len(saved["runs"])
    seeds = f"{runs} seeds" if runs > 1 else "1 seed"
    return (
        f"# Result: {row['test']} % test accuracy ({seeds}), fit in {row['seconds']} "
        f"on {saved['machine']['cores']} CPU cores."
    )


def write(rows: dict[str, dict[str, Any]]) -> None:
    """Puts table and headers into their places."""
    replace_between(README, MARKS, table(rows))
    for name, saved in rows.items():
        config = ROOT / "configs" / f"{name}.yaml"
        if config.exists():
            config.write_text(re.sub(r"# Result:.*", header(saved), config.read_text()))


def main(arguments: Iterable[str] | None = None) -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"which to run: {', '.join(ROWS)}; default: all")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    parser.add_argument("--data-dir", default="data", type=Path)
    options = parser.parse_args(arguments if arguments is None else list(arguments))
    if unknown := set(options.rows) - ROWS.keys():
        parser.error(f"unknown rows {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if not options.table:
        data_dir = options.data_dir.absolute()
        sources.fetch(data_dir)
        for name in options.rows or ROWS:
            row_options, seeds = ROWS[name]
            saved = {
                "command": command_line(row_options),
                "machine": machine(),
                "runs": [run_seed(row_options, seed, data_dir) for seed in seeds],
            }
            SAVED.mkdir(exist_ok=True)
            (SAVED / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")
    write(load())


if __name__ == "__main__":
    main()
