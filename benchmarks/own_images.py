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
SECTION = Section(DOCS / "own-data.md", "own images", "own_images.py")
CLASSES = ("dress", "outwear", "pants", "shoes", "t-shirt")
NUM_TRAIN = 30  # photos of a class
ROWS = ("--config own-images", "--data ImageFolderDataModule")
QUIET = ("--trainer.logger", "false", "--trainer.enable_progress_bar", "false")
SEEDS = range(3)


def copy_photos(folder: Path, target: Path) -> None:
    """Makes the folders for training and testing."""
    for name in CLASSES:
        contents = sorted((path.read_bytes() for path in folder.joinpath(name).iterdir()), key=sha)
        for index, content in enumerate(contents):
            path = target / ("train" if index < NUM_TRAIN else "test") / name / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def sha(content: bytes) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


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
    return {SECTION: markdown_table(["command", "time:", "test accuracy %:"], rows) + f"\n{note}\n"}


def measure(folder: Path) -> None:
    """Trains and tests each row with each seed."""
    runs: dict[str, list[dict[str, float]]] = {options: [] for options in ROWS}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        copy_photos(folder, root / "my_images")
        command = ("-m", "fmnist_lightning")
        for seed in SEEDS:
            for options in ROWS:
                arguments = [*options.split(), "--data.data_dir", "my_images", *QUIET]
                seeded = ("fit", *arguments, "--seed_everything", str(seed))
                seconds = common.time_python(*command, *seeded, folder=root)
                common.time_python(*command, "test", "--ckpt_path", "best.ckpt", folder=root)
                run_dir = Path(root, "best.ckpt").resolve().parents[1]
                summary = json.loads((run_dir / "test.json").read_text())
                row = {"seed": seed, "seconds": seconds}
                runs[options].append(row | {key: summary[key] for key in ("correct", "total")})
    common.save(SAVED, runs=runs)


if __name__ == "__main__":
    parser = common.create_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    arguments = parser.parse_args()
    if not arguments.table:
        measure(arguments.folder)
    common.write(texts())
