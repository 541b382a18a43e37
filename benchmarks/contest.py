"""What `plain.py`, `textbook.py` and `floor.py` share: their options and how they report."""

import argparse
import json
import os
from pathlib import Path


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all of them have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--train-size", type=int, default=48_000)
    parser.add_argument("--val-size", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=2)
    return parser


def write(first_batch: float | None, epochs: list[dict[str, float]]) -> None:
    """Leaves the figures where `speed.py` looks for them.

    Args:
        first_batch: When the first batch was ready, in seconds since 1970.
        epochs: For each epoch the seconds of its ``train`` and ``validation`` part and of the whole
            ``epoch``, and where it is known the validation ``accuracy``.
    """
    assert first_batch is not None
    Path(os.environ["STOPWATCH"]).write_text(
        json.dumps({"first_batch": first_batch, "epochs": epochs})
    )
