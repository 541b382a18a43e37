"""Where the time of a training step goes, by sampling the stack a thousand times a second.

`python benchmarks/profile_step.py` trains `configs/article.yaml` for four epochs by the command
line, in this process, and prints microseconds a step for each part. `--save NAME` keeps them in
`results/profile.json`, and `--report` writes its table. `--batch-size 256` profiles larger steps.
Another version is profiled by putting it first on the path:
`PYTHONPATH=path/to/another/checkout python benchmarks/profile_step.py`.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from lightning.pytorch import Callback
from results import ROOT, replace_between

SAVED = ROOT / "benchmarks" / "results" / "profile.json"
PAGE = ROOT / "benchmarks" / "README.md"
TABLE = "<!-- profile: written by benchmarks/profile_step.py -->\n", "<!-- end of profile -->\n"
# A sample counts for the first of these that is in the name of a file on the stack, seen from the
# innermost call outwards.
PARTS = (
    ("torchmetrics/", "metrics"),
    ("tensorboard/", "TensorBoard"),
    ("tqdm/", "progress bar"),
    ("torch/utils/data/", "batches"),
    ("fmnist_lightning/dataset.py", "batches"),
    ("torch/autograd/", "backward pass"),
    ("fmnist_lightning/networks.py", "forward pass and loss"),
    ("torch/nn/", "forward pass and loss"),
    ("fmnist_lightning/classifier.py", "forward pass and loss"),
    ("torch/optim/", "optimiser"),
    ("lightning/", "Lightning's hooks and loops"),
    ("fmnist_lightning/loop.py", "Lightning's hooks and loops"),
)


class Sampler(Callback):
    """Samples the stack in the training part of all epochs but the first."""

    samples: ClassVar[Counter[str]] = Counter()
    seconds = 0.0
    steps = 0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begins to sample."""
        self.active = trainer.current_epoch > 0
        if self.active:
            signal.signal(signal.SIGALRM, self._sample)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            self.start = time.perf_counter()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Stops."""
        if self.active:
            signal.setitimer(signal.ITIMER_REAL, 0)
            Sampler.seconds += time.perf_counter() - self.start
            Sampler.steps += trainer.num_training_batches

    @staticmethod
    def _sample(_: int, frame: FrameType | None) -> None:
        while frame is not None:
            for name, part in PARTS:
                if name in frame.f_code.co_filename:
                    Sampler.samples[part] += 1
                    return
            frame = frame.f_back


def profile(data_dir: Path, batch_size: int) -> dict[str, Any]:
    """Trains, and gives microseconds a step for each part."""
    from fmnist_lightning.__main__ import main

    sys.modules["profile_step"] = sys.modules[__name__]  # as the command line will import it
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        code = main(
            [
                *("fit", "--config", str(ROOT / "configs" / "article.yaml")),
                *("--trainer.max_epochs", "4", f"--data.data_dir={data_dir}"),
                f"--data.batch_size={batch_size}",
                *("--trainer.callbacks", "profile_step.Sampler"),
                "--trainer.enable_progress_bar=false",
            ]
        )
        os.chdir(here)
    assert code == 0
    step = 1e6 * Sampler.seconds / Sampler.steps
    total = sum(Sampler.samples.values())
    return {
        "step": round(step),
        "samples": total,
        "parts": {part: round(step * num / total) for part, num in Sampler.samples.most_common()},
    }


def table(saved: dict[str, Any]) -> str:
    """The parts, before and after."""
    before, after = saved["before"], saved["after"]
    lines = ["| microseconds a step | before | after |", "| --- | --- | --- |"]
    parts = sorted(
        before["parts"].keys() | after["parts"].keys(),
        key=lambda part: (-before["parts"].get(part, 0), part),
    )
    lines += [
        f"| {part} | {before['parts'].get(part, 0):,} | {after['parts'].get(part, 0):,} |"
        for part in parts
    ]
    lines.append(f"| **all** | **{before['step']:,}** | **{after['step']:,}** |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Profiles, saves, or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", metavar="NAME", choices=("before", "after"))
    parser.add_argument("--report", action="store_true", help="write the table only")
    parser.add_argument("--batch-size", type=int, default=20, help="the table is of 20")
    parser.add_argument("--data-dir", default="data", type=Path)
    options = parser.parse_args()
    if options.save and options.batch_size != 20:
        parser.error(f"the table is of batches of 20, not {options.batch_size}; leave --save out")
    saved = json.loads(SAVED.read_text()) if SAVED.exists() else {}
    if not options.report:
        measured = profile(options.data_dir.absolute(), options.batch_size)
        print(json.dumps(measured, indent=1))
        if not options.save:
            return
        saved[options.save] = measured
        SAVED.write_text(json.dumps(saved, indent=1) + "\n")
    if saved.keys() == {"before", "after"}:
        replace_between(PAGE, TABLE, table(saved))


if __name__ == "__main__":
    main()
