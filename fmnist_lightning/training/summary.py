"""An evaluation as plain numbers, and as lines for the terminal."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def compute_summary(metrics: dict[str, Tensor], classes: Sequence[str]) -> dict[str, Any]:
    """The metrics of an evaluation as plain numbers, with counts for each class."""
    confusion = metrics["confusion"]
    correct, total = int(confusion.diagonal().sum()), int(confusion.sum())
    return {
        "loss": float(metrics["loss"]),
        "accuracy": correct / total,
        "correct": correct,
        "total": total,
        "ece": float(metrics["ece"]),
        "classes": {
            name: {"correct": int(row[index]), "total": int(row.sum())}
            for index, (name, row) in enumerate(zip(classes, confusion, strict=True))
        },
    }


def format_metrics(name: str, summary: dict[str, Any]) -> str:
    """The lines that the terminal shows of a summary."""
    lines = [
        f"{name} loss {summary['loss']:.4f}",
        f"{name} accuracy {100 * summary['accuracy']:.2f} % "
        f"({summary['correct']:,}/{summary['total']:,})",
        f"{name} calibration error {100 * summary['ece']:.2f} %",
    ]
    for class_name, part in summary["classes"].items():
        percent = f"{100 * part['correct'] / part['total']:6.2f} %" if part["total"] else "     - "
        lines.append(f"  {class_name:<12} {percent} ({part['correct']:,}/{part['total']:,})")
    return "\n".join(lines)
