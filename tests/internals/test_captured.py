import contextlib
import functools
from types import SimpleNamespace

import pytest
import torch
from capturing import OP_BY_OP, Dropout, Hooked, LogsItsLoss, Recorder, double, freeze, sgd, train
from comparing import assert_equal
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fmnist_lightning import RandomAugmentation, SmallResNet
from fmnist_lightning.internals import captured
from fmnist_lightning.internals.captured import CapturedStep
from fmnist_lightning.photos import PhotoAugmentation


class RecordedGraph(TorchDispatchMode):
    """In place of a CUDA graph: operations on the CPU, which it repeats in the same memory."""

    num_replays = 0

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, outputs))
        return outputs

    @torch.no_grad()
    def replay(self):
        RecordedGraph.num_replays += 1
        for func, args, kwargs, outputs in self.calls:
            repeated = func(*args, **kwargs)
            for old, new in zip(tree_leaves(outputs), tree_leaves(repeated), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class CapturingRecorder(Recorder):
    """Has steps on the CPU captured, as those on a GPU are."""

    def on_fit_start(self, trainer, pl_module):
        pl_module.training_loss = CapturedStep(pl_module)


@pytest.fixture
def recorded_graphs(monkeypatch):
    """Has steps record graphs on the CPU, whose random numbers stand for those of a GPU."""
    stream = SimpleNamespace(device=None, wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(captured, "error_on_sync", contextlib.nullcontext)
    monkeypatch.setattr(captured, "cpu_random_states", bytes)
    monkeypatch.setattr(RecordedGraph, "num_replays", 0)


def assert_captured_equals_eager(module, num_replays, *change, **options):
    """Trains captured and op by op, and compares losses, metrics and weights to the bit."""
    options = {"accelerator": "cpu"} | options
    steps, weights = train(module, CapturingRecorder(*change), **options)
    eager, expected = train(module, Recorder(*change), **options)
    assert RecordedGraph.num_replays == num_replays
    assert steps.losses == eager.losses
    assert steps.metrics == eager.metrics
    assert_equal(weights, expected)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (sgd(), {}),
        (sgd(Dropout), {}),
        (sgd(functools.partial(SmallResNet, channels=[8, 16])), {"precision": "bf16-mixed"}),
        (sgd(augmentation=functools.partial(RandomAugmentation, erase_prob=0.5)), {}),
        (sgd(augmentation=PhotoAugmentation), {}),
        (sgd(), {"gradient_clip_val": 0.1}),
        (sgd(), {"fast_loop": False}),
    ],
    ids=["default", "dropout", "bf16", "erasing", "photos", "clip", "Lightning"],
)
@pytest.mark.usefixtures("data_dir", "recorded_graphs")
def test_captured_steps_equal_those_op_by_op(module, options):
    """All but the last of an epoch, whose batch is smaller, are replayed."""
    assert_captured_equals_eager(module, 5 * 9, **options)


@pytest.mark.usefixtures("data_dir", "recorded_graphs")
def test_parameters_that_are_frozen_in_an_epoch_stay_as_they_are():
    """The rest of this epoch runs op by op."""
    assert_captured_equals_eager(sgd(), 2 * 9 + 4 + 2 * 9, freeze)


@pytest.mark.usefixtures("data_dir", "recorded_graphs")
def test_hook_that_is_registered_between_epochs_is_called():
    assert_captured_equals_eager(sgd(), 2 * 9, double, 0)


@pytest.mark.parametrize(
    ("module", "options", "reason"),
    [
        (sgd(Hooked), {}, "hooks are registered"),
        (sgd(), {"accumulate_grad_batches": 2}, "gradients are accumulated"),
        (functools.partial(LogsItsLoss, optimizer=functools.partial(SGD, lr=0.1)), {}, "it logs"),
    ],
    ids=["hooks", "accumulation", "logs"],
)
@pytest.mark.usefixtures("data_dir", "recorded_graphs")
def test_what_cannot_be_captured_runs_op_by_op(module, options, reason, capsys):
    assert_captured_equals_eager(module, 0, **options)
    assert capsys.readouterr().out.count(OP_BY_OP + reason) == 1
