"""Trains the rows of the results tables, and writes the tables.

    python benchmarks/results.py

Each seed is a `fit`, a `validate` and a `test` by the command line, as a user would run them, in an
empty folder. Raw results go to `results/`, or to `results/gpu/` where there is a GPU; the tables to
README.md and the pages of docs/, one line to each config. `... article` runs this row only;
`... --table` runs nothing and writes only.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from common import DOCS, README, RESULTS, ROOT, Marks, describe_hardware, describe_versions, save
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning import load_classifier
from fmnist_lightning.data.download import download

MARKS = Marks.of("results", "results.py")
GPU_MARKS = Marks.of("results on a GPU", "results.py")
GPU_RESULTS = RESULTS / "gpu"
# Each row: the options of its `fit`, and its seeds.
ROWS: dict[str, tuple[list[str], range]] = {
    "default": ([], range(3)),
    "article": (["--config", "article"], range(3)),
    "tiny": (["--config", "tiny"], range(5)),
    "regularized": (["--config", "regularized"], range(5)),
    "fast": (["--config", "fast"], range(5)),
    "best": (["--config", "best"], range(3)),
    "photos": (["--config", "photos"], range(1)),
    "photos-without": (
        [
            *("--config", "photos"),
            *("--model.augmentation", "fmnist_lightning.RandomAugmentation"),
            *("--model.augmentation.erase_prob", "0.5"),
        ],
        range(1),
    ),
    "smoke": (["--config", "smoke"], range(1)),
    "pretrained": (["--config", "pretrained"], range(3)),
    "pretrained-random": (  # with the better of two learning rates
        [
            *("--config", "pretrained"),
            *("--model.network.weights", "null"),
            *("--model.optimizer.lr", "0.004"),
        ],
        range(3),
    ),
}
# The config of the network that a row is distilled from, one for all seeds.
TEACHERS = {"tiny": "fast"}
# The rows of the table of each page.
TABLES = {
    README: ("default", "article", "tiny", "regularized", "fast", "best", "photos", "pretrained"),
    DOCS / "pretrained.md": ("pretrained", "pretrained-random"),
    DOCS / "benchmarks.md": ("photos-without", "smoke"),
}


def run_command(folder: str, *args: str) -> float:
    """Runs the command line in a folder, and returns the seconds that it takes."""
    start = time.perf_counter()
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-m", "fmnist_lightning", *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        check=True,
    )
    return time.perf_counter() - start


def run_seed(
    options: list[str], seed: int, data_dir: Path, stages: Iterable[str] = ("validate", "test")
) -> dict[str, Any]:
    """Trains one seed, evaluates it, and returns its raw results."""
    data = ["--data.data_dir", str(data_dir)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        seconds = run_command(folder, "fit", *options, "--seed_everything", str(seed), *data)
        best = Path(folder, "best.ckpt")
        run_dir = best.resolve().parent.parent
        log = EventAccumulator(str(run_dir)).Reload()  # before `validate` adds to it
        metrics = {}
        for stage in stages:
            run_command(folder, stage, "--ckpt_path", "best.ckpt", *data)
            metrics[stage] = json.loads((run_dir / f"{stage}.json").read_text())
        config = yaml.safe_load((run_dir / "config.yaml").read_text())
        network = load_classifier(best, trusted=[config["model"]["network"]["class_path"]]).network
        return {
            "seed": seed,
            "fit_seconds": round(seconds, 1),
            "num_threads": config["num_threads"],
            "epochs": config["trainer"]["max_epochs"],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            # Seconds since the command was given, and validation accuracy, after each epoch.
            "curve": [
                [round(event.wall_time - start, 1), round(event.value, 5)]
                for event in log.Scalars("val/acc")
            ],
            **metrics,
        }


def run_row(name: str, data_dir: Path, folder: Path) -> None:
    """Trains and evaluates the seeds of a row, and saves their raw results in ``folder``."""
    options, seeds = ROWS[name]
    runs = []
    with tempfile.TemporaryDirectory() as cwd:
        if name in TEACHERS:
            run_command(cwd, "fit", "--config", TEACHERS[name], "--data.data_dir", str(data_dir))
            best = os.path.join(cwd, "best.ckpt")
            options = [*options, "--trainer.callbacks.teacher", best]
        for seed in seeds:
            runs.append(run_seed(options, seed, data_dir))
            # After each: a row can take hours.
            save(folder / f"{name}.json", command=command(name), runs=runs)


def summarize(saved: dict[str, Any]) -> dict[str, str]:
    """The numbers of a row as text."""
    runs = saved["runs"]
    seconds = statistics.mean(run["fit_seconds"] for run in runs)
    summary = {
        "parameters": f"{runs[0]['parameters']:,}",
        "epochs": str(runs[0]["epochs"]),
        "seconds": f"{seconds:.0f} s",
    }
    for stage in ("validate", "test"):
        values = [100 * run[stage]["accuracy"] for run in runs]
        mean = f"{statistics.mean(values):.2f}"
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        summary[stage] = f"{mean}{spread}"
        summary[f"{stage}_seeds"] = ", ".join(f"{value:.2f}" for value in values)
    summary["ece"] = f"{100 * statistics.mean(run['test']['ece'] for run in runs):.2f}"
    return summary


def load(names: Iterable[str] = tuple(ROWS), folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The saved rows, in the order of ``names``."""
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def command(name: str) -> str:
    """How to run a row."""
    return " ".join(["python -m fmnist_lightning fit", *ROWS[name][0]])


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The table of some rows."""
    lines = [
        "| | parameters | epochs | `fit` | validation % | test % (each seed) | ECE % | command |",
        "| --- | ---: | ---: | ---: | --- | --- | ---: | --- |",
    ]
    for name, saved in rows.items():
        row = summarize(saved)
        cells = [
            name,
            *(row[key] for key in ("parameters", "epochs", "seconds", "validate")),
            f"**{row['test']}** ({row['test_seeds']})",
            row["ece"],
            f"`{command(name)}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    machines: dict[tuple[str, str], list[str]] = {}  # the rows of each
    for name, saved in rows.items():
        used = saved["machine"]
        machines.setdefault((describe_hardware(used), describe_versions(used)), []).append(name)
    (hardware, versions), *others = machines
    ran_on = f"{hardware}, {versions}"
    for other in others:
        ran_on += f"; {', '.join(machines[other])}: {other[0]}"
        ran_on += f", {other[1]}" if other[1] != versions else ""
    lines.append(
        f"\nMean ± standard deviation over the seeds; {ran_on}. Seconds: the whole `fit` command, "
        "with validation, TensorBoard and checkpoints, dataset already downloaded. ECE: expected "
        "calibration error on the test set, 15 bins."
    )
    return "\n".join(lines) + "\n"


def header(saved: dict[str, Any]) -> str:
    """The line of a config that says its result."""
    row, num_seeds = summarize(saved), len(saved["runs"])
    seeds = f"{num_seeds} seeds" if num_seeds > 1 else "1 seed"
    return (
        f"# Result: {row['test']} % test accuracy ({seeds}), fit in {row['seconds']} "
        f"on {describe_hardware(saved['machine'])}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, saves, and writes tables and configs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"which to run: {', '.join(ROWS)}; default: all")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    parser.add_argument("--data-dir", default="data", type=Path)
    args = parser.parse_args(arguments)
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"unknown rows {', '.join(sorted(unknown))}; use {', '.join(ROWS)}")
    if not args.table:
        data_dir = args.data_dir.absolute()
        download(data_dir)
        folder = GPU_RESULTS if torch.cuda.is_available() else RESULTS
        for name in args.rows or ROWS:
            run_row(name, data_dir, folder)
    write_pages()


def write_pages() -> None:
    """Writes the tables, and the result of each config into it."""
    for page, names in TABLES.items():
        MARKS.replace(page, table(load(names)))
    GPU_MARKS.replace(DOCS / "benchmarks.md", table(load(folder=GPU_RESULTS)))
    for name, saved in load().items():
        config = ROOT / "configs" / f"{name}.yaml"
        if config.exists():
            config.write_text(re.sub(r"# Result:.*", header(saved), config.read_text()))


if __name__ == "__main__":
    main()
