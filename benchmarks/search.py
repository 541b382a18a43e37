r"""Tries a change to a config on validation data, and keeps it in the log of what was tried.

    python benchmarks/search.py tiny "batches of 64" -- --config configs/tiny.yaml \
        --data.batch_size 64

trains and validates what stands after `--`, a command line of `fit`, appends a line to
`results/search.jsonl`, and writes the log into `SEARCH.md`. The test set is not touched. Networks
that were tried and not kept are in `candidates.py`. `--report` only writes `SEARCH.md`.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import results

LOG = results.SAVED / "search.jsonl"
PAGE = results.ROOT / "benchmarks" / "SEARCH.md"
MARKS = "<!-- log: written by benchmarks/search.py -->\n", "<!-- end of log -->\n"


def main() -> None:
    """Tries one thing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("goal", nargs="?", help="the config that it is for")
    parser.add_argument("change", nargs="?", help="what is tried, in a few words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", default="data", type=Path)
    parser.add_argument("--report", action="store_true", help="try nothing, write the page only")
    # argparse would stop at the first `--` after an option, so what is behind it is cut off here.
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, options = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    if not given.report:
        if not (given.goal and given.change and options):
            parser.error("give a goal, a change and, after --, options of fit; or --report")
        tried = measure(given.goal, given.change, options, given.seed, given.data_dir)
        with LOG.open("a") as stream:
            stream.write(json.dumps(tried) + "\n")
    results.replace_between(PAGE, MARKS, table(load()))


def measure(
    goal: str, change: str, options: list[str], seed: int, data_dir: Path
) -> dict[str, Any]:
    """Trains and validates, and gives the line of the log."""
    figures = results.run_seed(options, seed, data_dir.absolute(), ["validate"])
    return {
        "goal": goal,
        "change": change,
        "options": options,
        "threads": int(os.environ.get("OMP_NUM_THREADS", results.machine()["cores"])),
        **{key: figures[key] for key in ("seed", "epochs", "parameters", "fit_seconds", "curve")},
        **{key: figures["validate"][key] for key in ("accuracy", "loss", "ece")},
    }


def load() -> list[dict[str, Any]]:
    """All that was tried, in order."""
    return [json.loads(line) for line in LOG.read_text().splitlines()]


def table(log: list[dict[str, Any]]) -> str:
    """The log as a table for each goal."""
    lines = []
    for goal in dict.fromkeys(each["goal"] for each in log):
        lines += [
            f"### {goal}\n",
            "| tried | parameters | epochs | `fit` s (threads) | validation % | loss | ECE % |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for each in log:
            if each["goal"] == goal:
                seed = f", seed {each['seed']}" if each["seed"] else ""
                cells = [
                    f"{each['change']}{seed}",
                    f"{each['parameters']:,}",
                    str(each["epochs"]),
                    f"{each['fit_seconds']:.0f} ({each['threads']})",
                    f"{100 * each['accuracy']:.2f}",
                    f"{each['loss']:.4f}",
                    f"{100 * each['ece']:.2f}",
                ]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
