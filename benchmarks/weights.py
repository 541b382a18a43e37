"""Writes the checkpoints that come with the package, from those that `results.py` keeps.

    python benchmarks/results.py fast tiny ...
    python benchmarks/weights.py [fast tiny ...]

A checkpoint of the package has the weights of seed 0 of a row in float16, and what evaluation needs
besides. Each is evaluated as a user would do it, before and after; one that loses 0.02 points of
validation accuracy is refused. Raw results go to `results/weights.json`, tables to docs/models.md.
"""

import hashlib
import json
import tempfile
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
ROWS = {name: name for name in ("photos", "fast", "regularized", "tiny", "default", "article")}
ROWS["ensemble"] = "best"
KEPT = ("pytorch-lightning_version", "epoch", "global_step", "hyper_parameters", "data")
MAX_LOSS = 0.0002  # of validation accuracy


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


def evaluate(checkpoint: str, stage: str, data_dir: Path) -> dict[str, Any]:
    """The result of a command, such as ``test``, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        data = ["--data.data_dir", str(data_dir)]
        results.run_command(folder, stage, "--ckpt_path", checkpoint, *data)
        (path,) = Path(folder).glob(f"runs/*/{stage}.json")
        result: dict[str, Any] = json.loads(path.read_text())
        return result


def write_weights(name: str, data_dir: Path) -> dict[str, Any]:
    """Writes one of the checkpoints; returns what is known of it."""
    source, target = results.CHECKPOINTS / f"{ROWS[name]}.ckpt", WEIGHTS / f"{name}.ckpt"
    before = evaluate(str(source), "validate", data_dir)["accuracy"]
    pack(source, target)
    validation = evaluate(name, "validate", data_dir)
    if before - validation["accuracy"] > MAX_LOSS:
        target.unlink()
        raise SystemExit(f"{name}: {validation['accuracy']} in float16, {before} in float32")
    return {
        "command": f"{results.command(ROWS[name])} --seed_everything 0",
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "bytes": target.stat().st_size,
        "float32_accuracy": before,
        "validate": validation,
        "test": evaluate(name, "test", data_dir),
        "machine": common.machine(),
    }


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
        Section(PAGE, "checkpoints", "weights.py"): f"{markdown_table(columns, rows)}\n"
        f"Trained on {'; '.join(machines)}.\n",
        Section(PAGE, "classes", "weights.py"): markdown_table(classes, by_class),
    }


def main() -> None:
    """Writes checkpoints, saves their results, and writes the page."""
    parser = common.create_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(ROWS)}")
    args = parser.parse_args()
    if not args.table:
        data_dir = common.prepare_data()
        saved = json.loads(SAVED.read_text()) if SAVED.exists() else {}
        for name in args.names or ROWS:
            saved[name] = write_weights(name, data_dir)
            ordered = {name: saved[name] for name in ROWS if name in saved}
            SAVED.write_text(json.dumps(ordered, indent=1) + "\n")
    common.write(texts())


if __name__ == "__main__":
    main()
