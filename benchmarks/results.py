"""Trains configs with several seeds, and writes the tables of their results.

    python benchmarks/results.py [article ...]

Everything is run by the command line, as a user would run it, in an empty folder. Each seed of a
row of the tables is a `fit`, a `validate` and a `test`; raw results go to `results/`, or to
`results/gpu/` where there is a GPU, and the checkpoint of seed 0 to `checkpoints/`. The tables go
to README.md and the pages of docs/, one line to each config.
"""

import json
import re
import shutil
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import common
import torch
import yaml
from common import DOCS, README, RESULTS, ROOT, Section, Texts, markdown_table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning import load_classifier

GPU_RESULTS = RESULTS / "gpu"
PAGE = DOCS / "benchmarks.md"
# The configs in the README, and their numbers of seeds.
CONFIGS = {
    **{"default": 3, "article": 3, "tiny": 5, "regularized": 5, "fast": 5, "best": 3},
    **{"photos": 1, "pretrained": 3},
}
NUM_SEEDS = CONFIGS | {"photos-without": 1, "smoke": 1, "pretrained-random": 3}  # all rows
# The options of `fit` of the rows that are no config of this name.
OPTIONS = {
    "default": "",
    "photos-without": "--config photos --model.augmentation fmnist_lightning.RandomAugmentation "
    "--model.augmentation.erase_prob 0.5",
    # With the better of two learning rates.
    "pretrained-random": "--config pretrained --model.network.weights null "
    "--model.optimizer.lr 0.004",
}
CHECKPOINTS = common.BENCHMARKS / "checkpoints"

Rows = dict[str, dict[str, Any]]  # the saved content of each


def run_seed(
    folder: Path, options: Iterable[str], stages: Iterable[str] = ("validate", "test")
) -> dict[str, Any]:
    """Trains once, in an empty folder, evaluates the best checkpoint, and returns raw results."""
    start = time.time()
    seconds = common.run_command(folder, "fit", *options)
    best = folder / "best.ckpt"
    run_dir = best.resolve().parents[1]
    log = EventAccumulator(str(run_dir)).Reload()  # before `validate` adds to it
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    network = load_classifier(best).network
    return {
        "seed": config["seed_everything"],
        "fit_seconds": round(seconds, 1),
        "num_threads": config["num_threads"],
        "epochs": config["trainer"]["max_epochs"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        # Seconds since the command was given, and validation accuracy, after each epoch.
        "curve": [
            [round(event.wall_time - start, 1), round(event.value, 5)]
            for event in log.Scalars("val/acc")
        ],
        **{stage: common.evaluate(folder, stage, "best.ckpt") for stage in stages},
    }


def measure(*names: str) -> None:
    """Trains and evaluates the seeds of some or all rows, and saves their raw results."""
    results = GPU_RESULTS if torch.cuda.is_available() else RESULTS
    for name in names or NUM_SEEDS:
        options, runs = command(name).split()[4:], []
        for seed in range(NUM_SEEDS[name]):
            with common.empty_folder() as folder:
                runs.append(run_seed(folder, [*options, "--seed_everything", str(seed)]))
                if seed == 0:
                    CHECKPOINTS.mkdir(exist_ok=True)
                    shutil.copyfile(folder / "best.ckpt", CHECKPOINTS / f"{name}.ckpt")
            # After each: a row can take hours.
            common.save(results / f"{name}.json", command=command(name), runs=runs)


def load(names: Iterable[str] = tuple(NUM_SEEDS), folder: Path = RESULTS) -> Rows:
    """The saved rows, in the order of ``names``."""
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def command(name: str) -> str:
    """How to run a row."""
    return f"python -m fmnist_lightning fit {OPTIONS.get(name, f'--config {name}')}".strip()


def summarize(name: str, saved: dict[str, Any]) -> dict[str, str]:
    """The cells of a row, by column."""
    runs = saved["runs"]
    seconds = statistics.mean(run["fit_seconds"] for run in runs)
    validation, test = (
        [100 * run[stage]["accuracy"] for run in runs] for stage in ("validate", "test")
    )
    return {
        "config": name,
        "parameters:": f"{runs[0]['parameters']:,}",
        "epochs:": str(runs[0]["epochs"]),
        "`fit`:": f"{seconds:.0f} s",
        "validation %": describe_mean(validation),
        "test %": f"**{describe_mean(test)}**",
        "each seed": ", ".join(f"{value:.2f}" for value in test),
        "ECE %:": f"{100 * statistics.mean(run['test']['ece'] for run in runs):.2f}",
        "command": f"`{command(name)}`",
    }


def describe_mean(values: list[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def footnote(rows: Rows) -> str:
    """What the numbers are, and what the rows ran on."""
    hardware: dict[str, list[str]] = {}
    for name, saved in rows.items():
        hardware.setdefault(common.describe_hardware(saved["machine"]), []).append(name)
    ran_on = "; ".join(f"{', '.join(names)}: {cores}" for cores, names in hardware.items())
    versions = dict.fromkeys(common.describe_versions(saved["machine"]) for saved in rows.values())
    return (
        f"Mean ± standard deviation over the seeds. {ran_on}. {'; '.join(versions)}. Seconds: the "
        "whole command, with validation, TensorBoard and checkpoints, dataset already there."
    )


def table(rows: Rows, columns: Iterable[str] = ()) -> str:
    """The table of some rows, with some or all columns."""
    summaries = [summarize(*row) for row in rows.items()]
    columns = list(columns or summaries[0])
    cells = ([summary[column] for column in columns] for summary in summaries)
    return f"{markdown_table(columns, cells)}\n{footnote(rows)}\n"


def header(name: str, saved: dict[str, Any]) -> str:
    """The line of a config that says its result."""
    row, num_seeds = summarize(name, saved), len(saved["runs"])
    seeds = f"{num_seeds} seeds" if num_seeds > 1 else "1 seed"
    return (
        f"# Result: {row['test %'].strip('*')} % test accuracy ({seeds}), fit in {row['`fit`:']} "
        f"on {common.describe_hardware(saved['machine'])}."
    )


def texts() -> Texts:
    """The sections of the pages."""
    short = table(load(CONFIGS), ["config", "parameters:", "epochs:", "`fit`:", "test %"])
    pretrained = ["pretrained", "pretrained-random"]
    return {
        Section(README, "results"): short,
        Section(PAGE, "results"): table(load()),
        Section(PAGE, "results on a GPU"): table(load(folder=GPU_RESULTS)),
        Section(DOCS / "pretrained.md", "results"): table(load(pretrained)),
    }


def write_headers() -> None:
    """Writes the result of each config into it."""
    for name, saved in load().items():
        config = ROOT / "configs" / f"{name}.yaml"
        if config.exists():
            config.write_text(re.sub(r"# Result:.*", header(name, saved), config.read_text()))


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
    write_headers()
