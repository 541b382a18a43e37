"""Trains configs and experiments, and writes the tables of their results.

    python benchmarks/results.py [article ...]
    python benchmarks/results.py --experiment fast "batch 64" -- --config fast --data.batch_size 64

Everything is run by the command line, as a user would run it, in an empty folder. Each seed of a
row of the results tables is a `fit`, a `validate` and a `test`; raw results go to `results/`, or to
`results/gpu/` where there is a GPU, and the checkpoint of seed 0 to `checkpoints/`. An experiment
is a `fit` and a `validate` of a variant of a config, and is added to `results/experiments.jsonl`.
The tables go to README.md and the pages of docs/, one line to each config.
"""

import json
import re
import shutil
import statistics
import tempfile
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
EXPERIMENTS = RESULTS / "experiments.jsonl"
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


def run_command(folder: str, *args: str) -> float:
    """Runs the command line in a folder, and returns the seconds that it takes."""
    return common.time_python("-m", "fmnist_lightning", *args, folder=Path(folder))


def run_seed(
    options: list[str], seed: int, data_dir: Path, keep: Path | None = None, test: bool = True
) -> dict[str, Any]:
    """Trains one seed, evaluates it, and returns its raw results; keeps its best checkpoint."""
    data = ["--data.data_dir", str(data_dir)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        seconds = run_command(folder, "fit", *options, "--seed_everything", str(seed), *data)
        best = Path(folder, "best.ckpt")
        run_dir = best.resolve().parent.parent
        log = EventAccumulator(str(run_dir)).Reload()  # before `validate` adds to it
        metrics = {}
        for stage in ("validate", "test") if test else ("validate",):
            run_command(folder, stage, "--ckpt_path", "best.ckpt", *data)
            metrics[stage] = json.loads((run_dir / f"{stage}.json").read_text())
        if keep:
            keep.parent.mkdir(exist_ok=True)
            shutil.copyfile(best, keep)
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
    options, runs = command(name).split()[4:], []
    for seed in range(NUM_SEEDS[name]):
        keep = CHECKPOINTS / f"{name}.ckpt" if seed == 0 else None
        runs.append(run_seed(options, seed, data_dir, keep))
        # After each: a row can take hours.
        common.save(folder / f"{name}.json", command=command(name), runs=runs)


def run_experiment(options: list[str], seed: int, data_dir: Path, goal: str, change: str) -> None:
    """Trains and validates a variant of a config, and adds it to the log."""
    run = run_seed(options, seed, data_dir, test=False)
    entry = {
        **{"goal": goal, "change": change, "options": options, "threads": run["num_threads"]},
        **{key: run[key] for key in ("seed", "epochs", "parameters", "fit_seconds", "curve")},
        **{key: run["validate"][key] for key in ("accuracy", "loss", "ece")},
    }
    with EXPERIMENTS.open("a") as stream:
        stream.write(json.dumps(entry) + "\n")


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


def experiment_tables(log: list[dict[str, Any]]) -> str:
    """The log of experiments as one table for each config."""
    columns = ["change", "parameters:", "epochs:", "`fit` s (threads):", "validation %:", "loss:"]
    tables = []
    for goal in dict.fromkeys(entry["goal"] for entry in log):
        rows = (
            [
                entry["change"] + (f", seed {entry['seed']}" if entry["seed"] else ""),
                f"{entry['parameters']:,}",
                str(entry["epochs"]),
                f"{entry['fit_seconds']:.0f} ({entry['threads']})",
                f"{100 * entry['accuracy']:.2f}",
                f"{entry['loss']:.4f}",
                f"{100 * entry['ece']:.2f}",
            ]
            for entry in log
            if entry["goal"] == goal
        )
        tables.append(f"### {goal}\n\n{markdown_table([*columns, 'ECE %:'], rows)}")
    return "\n".join(tables)


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
    log = [json.loads(line) for line in EXPERIMENTS.read_text().splitlines()]
    return {
        Section(README, "results", "results.py"): short,
        Section(PAGE, "results", "results.py"): table(load()),
        Section(PAGE, "results on a GPU", "results.py"): table(load(folder=GPU_RESULTS)),
        Section(DOCS / "pretrained.md", "results", "results.py"): table(load(pretrained)),
        Section(DOCS / "experiments.md", "log", "results.py"): experiment_tables(log),
    }


def write_pages() -> None:
    """Writes the tables, and the result of each config into it."""
    common.write(texts())
    for name, saved in load().items():
        config = ROOT / "configs" / f"{name}.yaml"
        if config.exists():
            config.write_text(re.sub(r"# Result:.*", header(name, saved), config.read_text()))


def main() -> None:
    """Trains, saves, and writes tables and configs."""
    parser = common.create_parser(__doc__)
    rows = f"which to run: {', '.join(NUM_SEEDS)}; default: all. Of an experiment: options of fit"
    parser.add_argument("rows", nargs="*", metavar="ROW", help=rows)
    parser.add_argument("--experiment", nargs=2, metavar=("CONFIG", "CHANGE"))
    parser.add_argument("--seed", type=int, default=0, help="of the experiment")
    args = parser.parse_args()
    if args.experiment:
        run_experiment(args.rows, args.seed, common.prepare_data(), *args.experiment)
    elif not args.table:
        data_dir = common.prepare_data()
        for name in args.rows or NUM_SEEDS:
            run_row(name, data_dir, GPU_RESULTS if torch.cuda.is_available() else RESULTS)
    write_pages()


if __name__ == "__main__":
    main()
