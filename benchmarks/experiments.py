"""Trains a variant of a config, and writes the log of experiments.

    python benchmarks/experiments.py fast "batch size 64" -- --config fast --data.batch_size 64

The arguments are the name of a table, what is changed, and the options of a `fit`, which is
validated, but not tested. The raw result is added to `results/experiments.jsonl`, and the tables go
to docs/experiments.md.
"""

import json

import common
from common import DOCS, RESULTS, Section, Texts, markdown_table
from results import run_seed

SAVED = RESULTS / "experiments.jsonl"
COLUMNS = (
    "change",
    "parameters:",
    "epochs:",
    "`fit` s (threads):",
    "validation %:",
    "loss:",
    "ECE %:",
)


def measure(goal: str, change: str, *options: str) -> None:
    """Trains and validates, and adds the result to the log."""
    with common.empty_folder() as folder:
        run = run_seed(folder, options, ["validate"])
    entry = {
        **{"goal": goal, "change": change, "options": options, "threads": run["num_threads"]},
        **{key: run[key] for key in ("seed", "epochs", "parameters", "fit_seconds", "curve")},
        **{key: run["validate"][key] for key in ("accuracy", "loss", "ece")},
    }
    with SAVED.open("a") as stream:
        stream.write(json.dumps(entry) + "\n")


def texts() -> Texts:
    """The log as one table for each config."""
    tables: dict[str, list[list[str]]] = {}
    for entry in map(json.loads, SAVED.read_text().splitlines()):
        seed = f", seed {entry['seed']}" if entry["seed"] else ""
        tables.setdefault(entry["goal"], []).append(
            [
                entry["change"] + seed,
                f"{entry['parameters']:,}",
                str(entry["epochs"]),
                f"{entry['fit_seconds']:.0f} ({entry['threads']})",
                f"{100 * entry['accuracy']:.2f}",
                f"{entry['loss']:.4f}",
                f"{100 * entry['ece']:.2f}",
            ]
        )
    text = "\n".join(
        f"### {goal}\n\n{markdown_table(COLUMNS, rows)}" for goal, rows in tables.items()
    )
    return {Section(DOCS / "experiments.md", "log"): text}


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
