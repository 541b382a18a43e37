"""Measures the accuracy of `predict --photos` on photos in folders named after classes.

    python benchmarks/photos.py FOLDER photos.ckpt photos-without.ckpt

Photos whose SHA-256 is a multiple of 3 are held out: no choice was made by them. The others were
used to develop the preprocessing and `PhotoAugmentation`. Every measurement is a `predict` command.
Raw counts go to `results/photo-accuracy.json`, the table to docs/photos.md. `--table` measures
nothing and writes the table.
"""

import argparse
import csv
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import DOCS, RESULTS, Marks, save

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos.images import find_photos, labels_from_folder
from fmnist_lightning.photos.report import balanced_accuracy

SAVED = RESULTS / "photo-accuracy.json"
PAGE = DOCS / "photos.md"
MARKS = Marks.of("photos", "photos.py")
PARTS = ("held out", "development")


def main() -> None:
    """Measures, saves, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--part", choices=PARTS, help="measure this part only, and save nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table")
    args = parser.parse_args()
    if not args.table:
        if not (args.photos and args.checkpoints):
            parser.error("give a folder of photos and checkpoints; or --table")
        parts = split(args.photos)
        rows = [
            {"network": path.stem, "part": part, "counts": measure(path, parts[part])}
            for path in args.checkpoints
            for part in ([args.part] if args.part else PARTS)
        ]
        if args.part:
            print(table(rows))
            return
        save(SAVED, rows=rows)
    MARKS.replace(PAGE, table(json.loads(SAVED.read_text())["rows"]))


def split(folder: Path) -> dict[str, list[Path]]:
    """The photos of each part."""
    parts: dict[str, list[Path]] = {part: [] for part in PARTS}
    for path in find_photos([str(folder)]):
        if labels_from_folder(path, CLASSES):
            digest = int(hashlib.sha256(path.read_bytes()).hexdigest(), 16)
            parts[PARTS[0] if digest % 3 == 0 else PARTS[1]].append(path)
    return parts


def measure(checkpoint: Path, paths: list[Path]) -> dict[str, list[int]]:
    """Runs ``predict``: for each folder, the number of correct predictions and of photos.

    Raises:
        RuntimeError: If it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = [str(path.resolve()) for path in paths]
        command = [sys.executable, "-m", "fmnist_lightning", "predict", "--photos", *names]
        command += ["--ckpt_path", str(checkpoint.resolve())]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        found = re.search(r"^Predictions and contact sheets: (.*)$", done.stdout, re.MULTILINE)
        if done.returncode or not found:
            raise RuntimeError(done.stderr)
        results = (Path(folder) / found[1]).resolve()
        print(f"{checkpoint}: {results}")
        with (results / "photos.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    counts: dict[str, list[int]] = {}
    for row in rows:
        if row["skipped"]:
            continue
        of_folder = counts.setdefault(row["folder"], [0, 0])
        of_folder[0] += row["prediction"] in labels_from_folder(Path(row["file"]), CLASSES)
        of_folder[1] += 1
    return dict(sorted(counts.items()))


def table(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown: a line for each network and part, a column for each folder."""
    folders = list(rows[0]["counts"])
    lines = [
        f"| network | photos | balanced % | {' | '.join(folders)} |",
        f"| --- | --- | --- |{' ---: |' * len(folders)}",
    ]
    for row in rows:
        mean, half_width = balanced_accuracy(row["counts"])
        cells = [f"{correct}/{total}" for correct, total in row["counts"].values()]
        num = sum(total for _, total in row["counts"].values())
        lines.append(
            f"| {row['network']} | {num} {row['part']} "
            f"| **{100 * mean:.1f}** ± {100 * half_width:.1f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
