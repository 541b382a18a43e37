"""Compares runs by their checkpoints and curves."""

import socket

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning.runs.checkpoint import read_checkpoint


def curves(folder):
    """Step and value of the points of each curve, as TensorBoard reads them."""
    reader = EventAccumulator(str(folder), {"scalars": 0, "images": 1, "tensors": 1}).Reload()
    return {
        tag: [(point.step, point.value) for point in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def assert_equal(ours, theirs, at=""):
    """Asserts that two nested values have the same types and bit-identical content."""
    assert type(ours) is type(theirs), at
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
        assert ours == theirs or ours != ours, at  # NaN is unequal to itself


def portable(value, folder):
    """A nested value without what may differ between equal runs: the folder, seconds, the numbers
    of logs, and the latest score, which Lightning does not restore."""
    if isinstance(value, dict):
        return {
            portable(key, folder): portable(each, folder)
            for key, each in value.items()
            if key not in ("run", "loggers", "time_elapsed", "current_score")
        }
    if isinstance(value, list | tuple):
        return type(value)(portable(each, folder) for each in value)
    return value.replace(folder.name, "RUN") if isinstance(value, str) else value


def assert_same_run(ours, theirs):
    """Asserts that two runs have the same curves, and bit-identical content of all checkpoints."""
    for name in ("best.ckpt", "last.ckpt"):
        paths = [folder / "checkpoints" / name for folder in (ours, theirs)]
        assert paths[0].exists() == paths[1].exists(), name
        if paths[0].exists():
            one, other = (portable(read_checkpoint(p), p.parent.parent) for p in paths)
            assert_equal(one, other, name)
    assert_equal(curves(ours), curves(theirs))


def free_port():
    """A free TCP port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def assert_close(ours, theirs):
    """Asserts that two runs have the same weights and curves up to rounding."""
    one, other = (read_checkpoint(each / "checkpoints" / "last.ckpt") for each in (ours, theirs))
    assert one["global_step"] == other["global_step"]
    torch.testing.assert_close(one["state_dict"], other["state_dict"], atol=1e-4, rtol=1e-3)
    our_curves, their_curves = curves(ours), curves(theirs)
    for tag in ("train/loss", "train/acc", "val/loss", "val/acc", "val/ece"):
        torch.testing.assert_close(
            torch.tensor(our_curves[tag]), torch.tensor(their_curves[tag]), atol=1e-3, rtol=1e-3
        )
