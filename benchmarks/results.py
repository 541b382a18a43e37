"""Trains the rows of the README's table of results, saves their figures, and writes the table.

Every seed is a `fit`, a `validate` and a `test` by the command line, as a user would run them, in
an empty folder of its own. `python benchmarks/results.py` runs all rows, `... article` one of them,
and `... --table` runs nothing and writes table, headers and chart from what is saved. The row
`plain` is the article's plain loop, for the chart alone.
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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning import load_classifier
from fmnist_lightning.data import download as sources

ROOT = Path(__file__).parent.parent
SAVED = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
CHART = ROOT / "benchmarks" / "accuracy.png"
PLAIN = "plain"
MARKS = "<!-- results: written by benchmarks/results.py -->\n", "<!-- end of results -->\n"
# Each row: the options of `fit` behind it, and its seeds.
ROWS: dict[str, tuple[list[str], range]] = {
    "default": ([], range(3)),
    "article": (["--config", "configs/article.yaml"], range(3)),
    "tiny": (["--config", "configs/tiny.yaml"], range(5)),
    "regularized": (["--config", "configs/regularized.yaml"], range(5)),
    "fast": (["--config", "configs/fast.yaml"], range(5)),
    "best": (["--config", "configs/best.yaml"], range(3)),
    "photos": (["--config", "configs/photos.yaml"], range(1)),
    "photos-without": (
        [
            *("--config", "configs/photos.yaml"),
            *("--model.augmentation", "fmnist_lightning.RandomAugmentation"),
            *("--model.augmentation.erase_prob", "0.5"),
        ],
        range(1),
    ),
    "smoke": (["--config", "configs/smoke.yaml"], range(1)),
}


def command_line(options: list[str]) -> str:
    """The command that the README gives for a row."""
    return " ".join(["python -m fmnist_lightning fit", *options])


def run_seed(
    options: list[str], seed: int, data_dir: Path, stages: Iterable[str] = ("validate", "test")
) -> dict[str, Any]:
    """Trains one seed, evaluates it, and gives its figures."""
    here = [str(ROOT / option) if option.endswith(".yaml") else option for option in options]
    data = ["--data.data_dir", str(data_dir)]
    with tempfile.TemporaryDirectory() as folder:

        def cli(*arguments: str) -> float:
            start = time.perf_counter()
            program = [sys.executable, "-m", "fmnist_lightning", *arguments, *data]
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            }
            subprocess.run(program, cwd=folder, env=environment, check=True)
            return time.perf_counter() - start

        start = time.time()
        seconds = cli("fit", *here, "--seed_everything", str(seed))
        best = Path(folder, "best.ckpt")
        run = best.resolve().parent.parent
        figures = {}
        log = EventAccumulator(str(run)).Reload()  # before the figures of `validate` are in it
        for stage in stages:
            cli(stage, "--ckpt_path", "best.ckpt")
            figures[stage] = json.loads((run / f"{stage}.json").read_text())
        config = yaml.safe_load((run / "config.yaml").read_text())
        network = load_classifier(best, trusted=[config["model"]["network"]["class_path"]]).network
        return {
            "seed": seed,
            "fit_seconds": round(seconds, 1),
            "epochs": config["trainer"]["max_epochs"],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            # Seconds since the command was given, and validation accuracy, after each epoch.
            "curve": [
                [round(event.wall_time - start, 1), round(event.value, 5)]
                for event in log.Scalars("val/acc")
            ],
            **figures,
        }


def run_plain(data_dir: Path) -> dict[str, Any]:
    """Trains the plain loop, and gives its seconds and its curve."""
    from speed import ARTICLE_EPOCHS, measure  # which imports this module

    taken = measure(PLAIN, data_dir, epochs=ARTICLE_EPOCHS, options=["--accuracy"])
    seconds, curve = taken["first_batch"], []
    for epoch in taken["epochs"]:  # what the accuracy took is not in their times
        seconds += epoch["epoch"]
        curve.append([round(seconds, 1), epoch["accuracy"]])
    return {"seed": 0, "fit_seconds": curve[-1][0], "curve": curve}


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


def compute_summary(saved: dict[str, Any]) -> dict[str, str]:
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
    figures["ece"] = f"{100 * statistics.mean(run['test']['ece'] for run in runs):.2f}"
    return figures


def load(names: Iterable[str] = tuple(ROWS)) -> dict[str, dict[str, Any]]:
    """The saved rows, in the order of ``names``."""
    paths = {name: SAVED / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The README's table."""
    lines = [
        "| | parameters | epochs | `fit` | validation % | test % (each seed) | ECE % | command |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, saved in rows.items():
        row = compute_summary(saved)
        cells = [
            name,
            *(row[key] for key in ("parameters", "epochs", "seconds", "validate")),
            f"**{row['test']}** ({row['test_seeds']})",
            row["ece"],
            f"`{saved['command']}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    used = machine_text(next(iter(rows.values()))["machine"])
    lines.append(
        f"\nMean ± standard deviation over the seeds; {used}. Seconds are of the whole command, "
        "start to end, with validation, dashboard and checkpoints, the data already there. ECE is "
        "the expected calibration error on the test set, of 15 bins."
    )
    return "\n".join(lines) + "\n"


def header(saved: dict[str, Any]) -> str:
    """The line of a config that says what it gives."""
    row, runs = compute_summary(saved), len(saved["runs"])
    seeds = f"{runs} seeds" if runs > 1 else "1 seed"
    return (
        f"# Result: {row['test']} % test accuracy ({seeds}), fit in {row['seconds']} "
        f"on {saved['machine']['cores']} CPU cores."
    )


def pyplot() -> Any:
    """Matplotlib in the style of this project's charts."""
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


def write_chart(rows: dict[str, dict[str, Any]]) -> None:
    """Draws validation accuracy against seconds, as means over the seeds, both on log scales."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9, 5.4), layout="constrained")
    for index, (name, saved) in enumerate(rows.items()):
        curves = [run["curve"] for run in saved["runs"]]
        points = [  # of each epoch
            [statistics.mean(values) for values in zip(*epoch, strict=True)]
            for epoch in zip(*curves, strict=True)
        ]
        seconds = [point[0] for point in points]
        errors = [100 - 100 * point[1] for point in points]
        colour = "#8a8a8a" if name == PLAIN else f"C{index % 7}"  # C7 is grey, too
        axes.plot(seconds, errors, color=colour, linewidth=2)
        axes.plot(seconds[-1], errors[-1], color=colour, marker="o", markersize=6)
        beside = name in (PLAIN, "tiny", "regularized")  # which end close to another's line
        between = "\n" if beside else " "
        axes.annotate(
            f"{name}{between}{100 - errors[-1]:.1f} %",
            (seconds[-1], errors[-1]),
            (8, 0) if beside else (4, 7),
            textcoords="offset points",
            ha="left" if beside else "right",
            va="center" if beside else "bottom",
            color=colour,
            fontweight="bold",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_yaxis()
    accuracies = (60, 70, 80, 85, 90, 92, 93, 94, 95, 96)
    axes.set_yticks([100 - each for each in accuracies], [f"{each} %" for each in accuracies])
    axes.set_yticks([], minor=True)
    axes.set_ylim(41, 3.7)
    ticks = {3: "3 s", 10: "10 s", 30: "30 s", 60: "1 min", 180: "3 min", 600: "10 min"}
    ticks |= {1800: "30 min"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xticks([], minor=True)
    axes.set_xlim(left=1.2)
    axes.set_xlabel("time since the command was given, on two CPU cores")
    axes.set_title("Validation accuracy", loc="left", fontweight="bold")
    figure.savefig(CHART, dpi=150)
    plt.close(figure)


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
    names = (*ROWS, PLAIN)
    parser.add_argument("rows", nargs="*", help=f"which to run: {', '.join(names)}; default: all")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    parser.add_argument("--data-dir", default="data", type=Path)
    options = parser.parse_args(arguments if arguments is None else list(arguments))
    if unknown := set(options.rows) - set(names):
        parser.error(f"unknown rows {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if not options.table:
        data_dir = options.data_dir.absolute()
        sources.fetch(data_dir)
        for name in options.rows or names:
            if name == PLAIN:
                command, runs = "python benchmarks/results.py plain", [run_plain(data_dir)]
            else:
                row_options, seeds = ROWS[name]
                command = command_line(row_options)
                runs = [run_seed(row_options, seed, data_dir) for seed in seeds]
            saved = {"command": command, "machine": machine(), "runs": runs}
            SAVED.mkdir(exist_ok=True)
            (SAVED / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")
    write(load())
    write_chart(load((PLAIN, *(name for name in ROWS if not name.startswith("photos")))))


if __name__ == "__main__":
    main()
