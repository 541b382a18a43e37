"""Measures the work of the article here and in other frameworks.

    make frameworks

Keras 3 on TensorFlow and on JAX, Flax, and this project, with and without `compile`, take turns for
several rounds, each run in a separate process. Raw results go to `results/frameworks.json`, the
table to docs/benchmarks.md.
`python benchmarks/frameworks.py --table` writes only. Nothing else should run on the machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import DOCS, RESULTS, Marks, describe_machine, save
from speed import measure
from speed_tables import OURS, Summary

from fmnist_lightning.data.download import download

SAVED = RESULTS / "frameworks.json"
PAGE = DOCS / "benchmarks.md"
MARKS = Marks.of("frameworks", "frameworks.py")
NUM_ROUNDS = 3
BATCH_SIZES = (20, 128)
COMPILED = "compiled"
# The option of the saved runs, and its name today.
OLD_OPTION, OPTION = "--model.compile=true", "--trainer.compile=true"
# Each framework: its program and options.
PROGRAMS: dict[str, tuple[str, list[str]]] = {
    OURS: (OURS, []),
    COMPILED: (OURS, [OPTION]),
    "Keras on TensorFlow": ("keras_baseline", ["--backend=tensorflow"]),
    "Keras on JAX": ("keras_baseline", ["--backend=jax"]),
    "Flax on JAX": ("flax_baseline", []),
}
PACKAGES = ("keras", "tensorflow", "jax", "flax")


def measure_all(data_dir: Path, python: str) -> list[dict[str, Any]]:
    """The runs of all rounds; ``python`` has the other frameworks."""
    return [
        {"section": "frameworks", "round": round}
        | measure(
            program,
            data_dir,
            batch_size,
            epochs=3,
            options=options,
            python=sys.executable if program == OURS else python,
        )
        for round in range(NUM_ROUNDS)
        for batch_size in BATCH_SIZES
        for program, options in PROGRAMS.values()
    ]


def find_versions(python: str) -> dict[str, str]:
    """The versions of the other frameworks."""
    code = f"import importlib.metadata as m; print(*map(m.version, {PACKAGES}))"
    output = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(zip(PACKAGES, output.split(), strict=True))


def table(saved: dict[str, Any]) -> str:
    """Median seconds of an epoch, and this project's against the fastest other in each round."""
    for run in saved["runs"]:
        run["options"] = [OPTION if name == OLD_OPTION else name for name in run["options"]]
    summary = Summary(saved)
    columns = (*PROGRAMS, *(f"{name} / fastest other" for name in (OURS, COMPILED)))
    lines = [f"| batch size | {' | '.join(columns)} |", "| ---: |" + " ---: |" * len(columns)]
    for batch_size in BATCH_SIZES:
        seconds = {
            name: summary.each_round("frameworks", "epoch", program, batch_size, options=options)
            for name, (program, options) in PROGRAMS.items()
        }
        medians = {name: statistics.median(each) for name, each in seconds.items()}
        fastest = min(PROGRAMS.keys() - {OURS, COMPILED}, key=lambda name: medians[name])
        cells = [f"{each:.2f}" for each in medians.values()]
        for name in (OURS, COMPILED):
            ratios = [a / b for a, b in zip(seconds[name], seconds[fastest], strict=True)]
            cells.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
        lines.append(f"| {batch_size} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {number}" for name, number in saved["frameworks"].items())
    return "\n".join(lines) + f"\n\nMedians. {describe_machine(saved['machine'])}, {versions}.\n"


def main() -> None:
    """Measures, saves, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    parser.add_argument("--data-dir", default="data", type=Path)
    parser.add_argument("--python", default=sys.executable, help="Python with the other frameworks")
    args = parser.parse_args()
    if not args.table:
        data_dir = args.data_dir.absolute()
        download(data_dir)
        python = str(Path(args.python).absolute())
        runs = measure_all(data_dir, python)
        save(SAVED, command="make frameworks", frameworks=find_versions(python), runs=runs)
    MARKS.replace(PAGE, table(json.loads(SAVED.read_text())))


if __name__ == "__main__":
    main()
