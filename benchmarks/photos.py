"""Measures `predict --photos` on photos in folders named after classes, seen before and not.

    python benchmarks/photos.py FOLDER photos.ckpt photos-without.ckpt

The photos whose SHA-256 is a multiple of 3 are *held out*: nothing was chosen by them. The others
were looked at while the conversion and `PhotoAugmentation` were developed. Each part is a command
line of `predict`, as a user would give it; figures go to `results/photo-accuracy.json`, and a table
into the README. `--table` measures nothing and writes the table from what is saved.
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

import results

from fmnist_lightning.photos.images import find_photos, labels_from_folder
from fmnist_lightning.photos.report import balanced

SAVED = results.SAVED / "photo-accuracy.json"
MARKS = "<!-- photos: written by benchmarks/photos.py -->\n", "<!-- end of photos -->\n"
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
    given = parser.parse_args()
    if not given.table:
        if not (given.photos and given.checkpoints):
            parser.error("give a folder of photos and checkpoints; or --table")
        parts = split(given.photos)
        rows = [
            {"network": path.stem, "part": part, "right": measure(path, parts[part])}
            for path in given.checkpoints
            for part in ([given.part] if given.part else PARTS)
        ]
        if given.part:
            print(table(rows))
            return
        saved = {"machine": results.machine(), "rows": rows}
        SAVED.write_text(json.dumps(saved, indent=1) + "\n")
    results.replace_between(results.README, MARKS, table(json.loads(SAVED.read_text())["rows"]))


def split(folder: Path) -> dict[str, list[Path]]:
    """The photos of each part."""
    parts: dict[str, list[Path]] = {part: [] for part in PARTS}
    for path in find_photos([str(folder)]):
        if labels_from_folder(path):
            number = int(hashlib.sha256(path.read_bytes()).hexdigest(), 16)
            parts[PARTS[0] if number % 3 == 0 else PARTS[1]].append(path)
    return parts


def measure(checkpoint: Path, paths: list[Path]) -> dict[str, list[int]]:
    """Classifies photos by the command line: for each folder, how many are right, and of how many.

    Raises:
        RuntimeError: If it fails.
    """
    with tempfile.TemporaryDirectory() as here:
        names = [str(path.resolve()) for path in paths]
        command = [sys.executable, "-m", "fmnist_lightning", "predict", "--photos", *names]
        command += ["--ckpt_path", str(checkpoint.resolve())]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
        found = re.search(r"^table and contact sheets: (.*)$", done.stdout, flags=re.MULTILINE)
        if done.returncode or not found:
            raise RuntimeError(done.stderr)
        print(f"{checkpoint}: {(Path(here) / found[1]).resolve()}")
        with (Path(here) / found[1] / "photos.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    right: dict[str, list[int]] = {}
    for row in rows:
        counts = right.setdefault(row["folder"], [0, 0])
        counts[0] += row["prediction"] in labels_from_folder(Path(row["file"]))
        counts[1] += 1
    return dict(sorted(right.items()))


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table: a line for each network and part, a column for each folder."""
    folders = list(rows[0]["right"])
    lines = [
        f"| network | photos | balanced % | {' | '.join(folders)} |",
        f"| --- | --- | --- |{' ---: |' * len(folders)}",
    ]
    for row in rows:
        mean, reach = balanced(row["right"])
        cells = [f"{correct}/{total}" for correct, total in row["right"].values()]
        num = sum(total for _, total in row["right"].values())
        lines.append(
            f"| {row['network']} | {num} {row['part']} | **{100 * mean:.1f}** ± {100 * reach:.1f} "
            f"| {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
