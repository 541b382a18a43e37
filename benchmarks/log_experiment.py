r"""Trains a variant of a config, validates it, and adds it to the log of experiments.

    python benchmarks/log_experiment.py fast "batch size 128" -- --config fast \
        --data.batch_size 128

After `--` stand options of `fit`. A line is added to `results/experiments.jsonl`, and the tables of
docs/experiments.md are written. The test set is not used. `--table` writes the tables only.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import results
from common import DOCS, RESULTS, Marks

LOG = RESULTS / "experiments.jsonl"
PAGE = DOCS / "experiments.md"
MARKS = Marks.of("log", "log_experiment.py")


def main() -> None:
    """Runs one experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("goal", nargs="?", help="the config that it could improve")
    parser.add_argument("change", nargs="?", help="the change, in a few words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", default="data", type=Path)
    parser.add_argument("--table", action="store_true", help="run nothing, write the tables only")
    # argparse itself would stop at a `--` after an option.
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, options = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    if not args.table:
        if not (args.goal and args.change and options):
            parser.error("give a goal, a change and, after --, options of fit; or --table")
        entry = measure(args.goal, args.change, options, args.seed, args.data_dir)
        with LOG.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
    MARKS.replace(PAGE, tables(load()))


def measure(
    goal: str, change: str, options: list[str], seed: int, data_dir: Path
) -> dict[str, Any]:
    """Trains and validates, and returns the entry of the log."""
    run = results.run_seed(options, seed, data_dir.absolute(), ["validate"])
    return {
        "goal": goal,
        "change": change,
        "options": options,
        "threads": run["num_threads"],
        **{key: run[key] for key in ("seed", "epochs", "parameters", "fit_seconds", "curve")},
        **{key: run["validate"][key] for key in ("accuracy", "loss", "ece")},
    }


def load() -> list[dict[str, Any]]:
    """All entries, in order."""
    return [json.loads(line) for line in LOG.read_text().splitlines()]


def tables(log: list[dict[str, Any]]) -> str:
    """The log as one table for each goal."""
    lines = []
    for goal in dict.fromkeys(entry["goal"] for entry in log):
        lines += [
            f"### {goal}\n",
            "| change | parameters | epochs | `fit` s (threads) | validation % | loss | ECE % |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for entry in log:
            if entry["goal"] == goal:
                seed = f", seed {entry['seed']}" if entry["seed"] else ""
                cells = [
                    f"{entry['change']}{seed}",
                    f"{entry['parameters']:,}",
                    str(entry["epochs"]),
                    f"{entry['fit_seconds']:.0f} ({entry['threads']})",
                    f"{100 * entry['accuracy']:.2f}",
                    f"{entry['loss']:.4f}",
                    f"{100 * entry['ece']:.2f}",
                ]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
