"""Measures the work of the article here and in other frameworks.

    make frameworks

Keras 3 on TensorFlow and on JAX, Flax, and this project, with and without `compile`, take turns for
several rounds, each run in a separate process. Raw results go to `results/frameworks.json`, the
table to docs/benchmarks.md. Nothing else should run on the machine.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import common
from common import DOCS, RESULTS, Section, Texts, markdown_table
from speed import measure
from speed_tables import PACKAGE, Times

from fmnist_lightning.data.download import download

SAVED = RESULTS / "frameworks.json"
NUM_ROUNDS = 3
BATCH_SIZES = (20, 128)
COMPILED = "compiled"
# The option of the saved runs, and its name today.
OLD_OPTION, OPTION = "--model.compile=true", "--trainer.compile=true"
# Each framework: its program and options.
PROGRAMS: dict[str, tuple[str, list[str]]] = {
    PACKAGE: (PACKAGE, []),
    COMPILED: (PACKAGE, [OPTION]),
    "Keras on TensorFlow": ("keras_baseline", ["--backend=tensorflow"]),
    "Keras on JAX": ("keras_baseline", ["--backend=jax"]),
    "Flax on JAX": ("flax_baseline", []),
}
OTHER_PACKAGES = ("keras", "tensorflow", "jax", "flax")


def find_versions(python: str) -> dict[str, str]:
    """The versions of the other frameworks."""
    code = f"import importlib.metadata as m; print(*map(m.version, {OTHER_PACKAGES}))"
    output = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(zip(OTHER_PACKAGES, output.split(), strict=True))


def table(times: Times) -> str:
    """Median seconds of an epoch, and this project's against the fastest other in each round."""
    rows = []
    for batch_size in BATCH_SIZES:
        seconds = {
            name: times.each_round("epoch", program, batch_size, options)
            for name, (program, options) in PROGRAMS.items()
        }
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        fastest = min(PROGRAMS.keys() - {PACKAGE, COMPILED}, key=lambda name: medians[name])
        row = [str(batch_size), *(f"{value:.2f}" for value in medians.values())]
        for name in (PACKAGE, COMPILED):
            ratios = [a / b for a, b in zip(seconds[name], seconds[fastest], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            row.append(f"{statistics.median(ratios):.2f} ({spread})")
        rows.append(row)
    ratio_columns = (f"{name} / fastest other" for name in (PACKAGE, COMPILED))
    columns = ("batch size", *PROGRAMS, *ratio_columns)
    return markdown_table((f"{column}:" for column in columns), rows)


def texts() -> Texts:
    """The section of the page."""
    saved = json.loads(SAVED.read_text().replace(OLD_OPTION, OPTION))
    versions = ", ".join(f"{name} {number}" for name, number in saved["frameworks"].items())
    machine = common.describe_machine(saved["machine"])
    section = Section(DOCS / "benchmarks.md", "frameworks", "frameworks.py")
    return {section: f"{table(Times(saved['runs']))}\nMedians. {machine}, {versions}.\n"}


def main() -> None:
    """Measures, saves, and writes the table."""
    parser = common.create_parser(__doc__)
    parser.add_argument("--data-dir", default="data", type=Path)
    parser.add_argument("--python", default=sys.executable, help="Python with the other frameworks")
    args = parser.parse_args()
    if not args.table:
        data_dir = args.data_dir.absolute()
        download(data_dir)
        other_python = str(Path(args.python).absolute())
        runs = []
        for round in range(NUM_ROUNDS):
            for batch_size in BATCH_SIZES:
                for program, options in PROGRAMS.values():
                    python = sys.executable if program == PACKAGE else other_python
                    run = measure(program, data_dir, batch_size, 3, options, python)
                    runs.append({"section": "frameworks", "round": round} | run)
        common.save(SAVED, frameworks=find_versions(other_python), runs=runs)
    common.write(texts())


if __name__ == "__main__":
    main()
