"""Compares runs, and reads what they wrote."""

import re
import socket
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning.training.checkpoint import read_checkpoint


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The points of each curve, as TensorBoard itself reads them."""
    reader = EventAccumulator(str(folder), {"scalars": 0, "images": 1, "tensors": 1}).Reload()
    return {
        tag: [(point.step, point.value) for point in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def assert_equal(ours: Any, theirs: Any, at: str = "") -> None:
    """That two nested values are the same to the bit."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), at
        for key, value in ours.items():
            assert_equal(value, theirs[key], f"{at}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), at
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(one, other, f"{at}.{index}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), at
    else:
        assert ours == theirs, at


def scores(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The best scores that a checkpoint remembers, without the names of folders."""
    return {
        re.sub(r"'dirpath': '[^']*'", "", name): value["best_model_score"]
        for name, value in checkpoint["callbacks"].items()
        if "best_model_score" in value
    }


def assert_same_run(ours: Path, theirs: Path) -> None:
    """That two runs came to the same weights, states, scores and curves."""
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (read_checkpoint(folder / "checkpoints" / name) for folder in (ours, theirs))
        for key in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"):
            assert_equal(one[key], other[key], f"{name}: {key}")
        assert_equal(scores(one), scores(other), name)
    assert_equal(curves(ours), curves(theirs))


def free_port() -> str:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def assert_alike(ours: Path, theirs: Path) -> None:
    """That two runs came to the same weights and curves, up to rounding."""
    one, other = (read_checkpoint(each / "checkpoints" / "last.ckpt") for each in (ours, theirs))
    assert one["global_step"] == other["global_step"]
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(value, other["state_dict"][name], atol=1e-4, rtol=1e-3)
    ours_read, theirs_read = curves(ours), curves(theirs)
    for tag in ("train/loss", "train/acc", "val/loss", "val/acc", "val/ece"):
        torch.testing.assert_close(
            torch.tensor(ours_read[tag]), torch.tensor(theirs_read[tag]), atol=1e-3, rtol=1e-3
        )
