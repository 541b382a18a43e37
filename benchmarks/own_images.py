"""Measures how well the networks learn a small set of photos in own classes.

    python benchmarks/own_images.py FOLDER

FOLDER is that of the clothing dataset, with a folder for each class. By the SHA-256 of their files,
30 photos of each class are for training, and the others for testing. Results go to
`results/own-images.json`, a table to docs/own-data.md.
"""

import hashlib
import json
import statistics
import tempfile
from pathlib import Path

import common
from common import DOCS, RESULTS, Section, Texts, markdown_table

SAVED = RESULTS / "own-images.json"
CLASSES = ("dress", "outwear", "pants", "shoes", "t-shirt")
NUM_TRAIN = 30  # photos of a class
ROWS = ("--config own-images", "--data ImageFolderDataModule")
QUIET = ("--trainer.logger", "false", "--trainer.enable_progress_bar", "false")
SEEDS = range(3)


def copy_photos(folder: Path, target: Path) -> None:
    """Makes the folders for training and testing."""
    for name in CLASSES:
        contents = [path.read_bytes() for path in folder.joinpath(name).iterdir()]
        contents.sort(key=lambda content: hashlib.sha256(content).digest())
        for index, content in enumerate(contents):
            path = target / ("train" if index < NUM_TRAIN else "test") / name / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def run(options: str, seed: int, data_dir: str) -> dict[str, float]:
    """Trains and tests in an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = ("--data.data_dir", data_dir, "--seed_everything", str(seed))
        seconds = common.run_command(folder, "fit", *options.split(), *data, *QUIET)
        summary = common.evaluate(folder, "test", "best.ckpt")
    counts = {key: summary[key] for key in ("correct", "total")}
    return {"seed": seed, "seconds": seconds} | counts


def measure(folder: str) -> None:
    """Trains and tests each row with each seed."""
    runs: dict[str, list[dict[str, float]]] = {options: [] for options in ROWS}
    with tempfile.TemporaryDirectory() as data_dir:
        copy_photos(Path(folder), Path(data_dir))
        for seed in SEEDS:
            for options in ROWS:
                runs[options].append(run(options, seed, data_dir))
    common.save(SAVED, runs=runs)


def texts() -> Texts:
    """Seconds of a fit, and test accuracies."""
    saved = json.loads(SAVED.read_text())
    rows = []
    for options, runs in saved["runs"].items():
        accuracies = [100 * run["correct"] / run["total"] for run in runs]
        mean, deviation = statistics.mean(accuracies), statistics.stdev(accuracies)
        seconds = statistics.median(run["seconds"] for run in runs)
        rows.append([f"`fit {options}`", f"{seconds:.0f} s", f"{mean:.1f} ± {deviation:.1f}"])
    total = saved["runs"][ROWS[0]][0]["total"]
    note = (
        f"{NUM_TRAIN * len(CLASSES)} photos of five kinds of clothes for training, {total} for "
        "testing, from the [clothing dataset]"
        "(https://github.com/alexeygrigorev/clothing-dataset-small); mean ± standard deviation of "
        f"{len(SEEDS)} seeds. {common.describe_machine(saved['machine'])}."
    )
    table = markdown_table(["command", "time:", "test accuracy %:"], rows)
    return {Section(DOCS / "own-data.md", "own images"): f"{table}\n{note}\n"}


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
