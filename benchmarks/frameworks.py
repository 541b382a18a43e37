"""Measures the work of the article here and in other frameworks.

    make frameworks

Keras 3 on TensorFlow and on JAX, Flax, and this project, with and without `compile`, take turns for
several rounds, each run in a separate process. The others run in `.venv-frameworks`. Raw results go
to `results/frameworks.json`, the table to docs/benchmarks.md. Nothing else should run on the
machine.
"""

import json
import statistics
import subprocess

import common
from common import DOCS, RESULTS, ROOT, Section, Texts, markdown_table
from timing import PACKAGE, Times, take_turns

SAVED = RESULTS / "frameworks.json"
NUM_ROUNDS, NUM_EPOCHS = 3, 3
BATCH_SIZES = (20, 128)
# The option of the saved runs, and its name today.
OLD_OPTION, OPTION = "--model.compile=true", "--trainer.compile=true"
OURS = {PACKAGE: PACKAGE, "compiled": f"{PACKAGE} {OPTION}"}
# Each framework: its program and options.
OTHERS = {
    "Keras on TensorFlow": "keras_baseline --backend=tensorflow",
    "Keras on JAX": "keras_baseline --backend=jax",
    "Flax on JAX": "flax_baseline",
}
PROGRAMS = OURS | OTHERS
OTHER_PACKAGES = ("keras", "tensorflow", "jax", "flax")


def table(times: Times) -> str:
    """Median seconds of an epoch, and this project's against the fastest other in each round."""
    rows = []
    for batch_size in BATCH_SIZES:
        medians = {
            program: times.median("epoch", program, batch_size) for program in PROGRAMS.values()
        }
        row = [str(batch_size), *(f"{seconds:.2f}" for seconds in medians.values())]
        fastest = min(OTHERS.values(), key=medians.__getitem__)
        for program in OURS.values():
            ratios = times.ratios("epoch", fastest, batch_size, program)
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            row.append(f"{statistics.median(ratios):.2f} ({spread})")
        rows.append(row)
    columns = ("batch size", *PROGRAMS, *(f"{name} / fastest other" for name in OURS))
    return markdown_table((f"{column}:" for column in columns), rows)


def texts() -> Texts:
    """The section of the page."""
    saved = json.loads(SAVED.read_text().replace(OLD_OPTION, OPTION))
    versions = ", ".join(f"{name} {number}" for name, number in saved["frameworks"].items())
    machine = common.describe_machine(saved["machine"])
    section = Section(DOCS / "benchmarks.md", "frameworks")
    return {section: f"{table(Times(saved['runs']))}\nMedians. {machine}, {versions}.\n"}


def measure() -> None:
    """Runs the programs in turns."""
    python = str(ROOT / ".venv-frameworks" / "bin" / "python")
    code = f"import importlib.metadata as m; print(*map(m.version, {OTHER_PACKAGES}))"
    versions = subprocess.check_output([python, "-c", code], text=True).split()
    runs = take_turns(NUM_ROUNDS, PROGRAMS.values(), BATCH_SIZES, NUM_EPOCHS, python)
    common.save(SAVED, frameworks=dict(zip(OTHER_PACKAGES, versions, strict=True)), runs=runs)


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
