"""Writes the checkpoints that come with the package, from those that `results.py` keeps.

    python benchmarks/results.py fast tiny ...
    python benchmarks/weights.py [fast tiny ...]

A checkpoint of the package has the weights of seed 0 of a row in float16, and what evaluation needs
besides. Each is evaluated as a user would do it, before and after; a test compares. Raw results go
to `results/weights.json`, tables to docs/models.md.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import common
import results
import torch
from common import DOCS, RESULTS, Section, Texts, markdown_table

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.runs.checkpoint import WEIGHTS, read_checkpoint

SAVED = RESULTS / "weights.json"
PAGE = DOCS / "models.md"
# The row of each: Lightning's users call the best of their own checkpoints `best`.
NAMES = ("photos", "fast", "regularized", "tiny", "default", "article")
ROWS = {name: name for name in NAMES} | {"ensemble": "best"}
KEPT = ("pytorch-lightning_version", "epoch", "global_step", "hyper_parameters", "data")


def pack(source: Path, target: Path) -> None:
    """Writes what evaluation needs of a checkpoint, with weights in float16."""
    checkpoint = read_checkpoint(source)
    packed = {key: checkpoint[key] for key in (*KEPT, "FashionMNISTDataModule")}
    packed["data"]["init_args"]["data_dir"] = "data"  # the default
    packed["state_dict"] = {
        name: value.half() if value.is_floating_point() else value
        for name, value in checkpoint["state_dict"].items()
    }
    target.parent.mkdir(exist_ok=True)
    torch.save(packed, target)


def write_weights(name: str) -> dict[str, Any]:
    """Writes one of the checkpoints; returns what is known of it."""
    source, target = results.CHECKPOINTS / f"{ROWS[name]}.ckpt", WEIGHTS / f"{name}.ckpt"
    pack(source, target)
    with common.empty_folder() as folder:
        before = common.evaluate(folder, "validate", str(source))
    with common.empty_folder() as folder:
        metrics = {stage: common.evaluate(folder, stage, name) for stage in ("validate", "test")}
    return {
        "command": f"{results.command(ROWS[name])} --seed_everything 0",
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "bytes": target.stat().st_size,
        "float32_accuracy": before["accuracy"],
        **metrics,
        "machine": common.machine(),
    }


def measure(*names: str) -> None:
    """Writes some or all of the checkpoints, and saves their results."""
    saved = json.loads(SAVED.read_text())
    for name in names or ROWS:
        saved[name] = write_weights(name)
        SAVED.write_text(json.dumps(saved, indent=1) + "\n")


def texts() -> Texts:
    """The sections of the page."""
    saved = json.loads(SAVED.read_text())
    columns = ["name", "config", "file:", "validation %:", "test %:", "ECE %:", "SHA-256"]
    rows = (
        [
            f"`{name}`",
            f"`{ROWS[name]}`",
            f"{entry['bytes'] / 2**20:.2f} MiB",
            *(f"{100 * entry[stage]['accuracy']:.2f}" for stage in ("validate", "test")),
            f"{100 * entry['test']['ece']:.2f}",
            f"`{entry['sha256'][:16]}…`",
        ]
        for name, entry in saved.items()
    )
    machines = dict.fromkeys(common.describe_machine(each["machine"]) for each in saved.values())
    by_class = (
        [
            name,
            *(f"{entry['test']['classes'][name]['correct'] / 10:.1f}" for entry in saved.values()),
        ]
        for name in CLASSES
    )
    classes = ["test % of", *(f"{name}:" for name in saved)]
    return {
        Section(PAGE, "checkpoints"): f"{markdown_table(columns, rows)}\n"
        f"Trained on {'; '.join(machines)}.\n",
        Section(PAGE, "classes"): markdown_table(classes, by_class),
    }


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
