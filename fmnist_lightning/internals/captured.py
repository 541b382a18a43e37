"""A training step that a GPU replays, instead of one that Python launches kernel by kernel."""

import contextlib
import pickle
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.gradients import attach_gradients


class CapturedStep:
    """Augmentation, forward and backward pass of a batch as one CUDA graph.

    Python takes longer to launch the hundred kernels of a small network's step than a GPU takes to
    run them. A graph (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs) launches
    all at once. It is captured at the first batch of each epoch, because what it depends on may
    change between epochs; a batch of another shape or type runs op by op.

    Args:
        module: A ``FashionClassifier`` whose ``training_loss`` this replaces.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.training_loss = module.training_loss
        self.graph: torch.cuda.CUDAGraph | None = None
        self.is_stale = True  # no capture was tried yet in this epoch
        self.obstacle: str | None = None  # why this run can't capture, once found
        self.stream: torch.cuda.Stream | None = None  # of the captures

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, shape (), with its gradients, and the logits, shape (N, C)."""
        if self.is_stale:
            self._prepare_epoch(images, labels)
        if (
            self.graph is None
            or describe(images, labels) != self.expected
            or self.trainable != [parameter.requires_grad for parameter in self.parameters]
        ):
            return self.training_loss(images, labels)  # type: ignore[no-any-return]
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        # Copies, as the next replay overwrites both. It also overwrites the gradients.
        return attach_gradients(self.loss, self.parameters, self.gradients), self.logits.clone()

    def _prepare_epoch(self, images: Tensor, labels: Tensor) -> None:
        self.is_stale, self.graph = False, None
        if self.obstacle is None:
            self.obstacle = find_obstacle(self.module) or self._try_to_capture(images, labels)
            if self.obstacle is not None:
                print_line(f"Training runs op by op, not as a CUDA graph, because {self.obstacle}")

    def _try_to_capture(self, images: Tensor, labels: Tensor) -> str | None:
        """Captures the step of a batch; returns why, if it can't.

        Weights, buffers and random numbers stay as they were, though the step is tried first.
        """
        is_first = self.stream is None
        self.stream = self.stream or torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
        with unchanged_state(self.module, self.stream):
            states = cpu_random_states()
            try:
                if is_first:
                    self._run(images, labels)  # initializes libraries, which synchronizes
                with error_on_sync():
                    self._run(images, labels)
            except MisconfigurationException:
                return "it logs values"
            except RuntimeError as error:
                return f"of this error: {str(error).splitlines()[0]}"
            if cpu_random_states() != states:
                return "it draws random numbers on the CPU"
            try:
                self._capture(images, labels)
            except RuntimeError as error:  # it leaves CUDA's random generator unusable
                raise ValueError(
                    "the training step can't be captured as a CUDA graph "
                    f"({str(error).splitlines()[0]}); train with --trainer.capture false"
                ) from error
        return None

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.clone(), labels.clone()
        self.expected = describe(images, labels)
        self.parameters = list(self.module.parameters())
        self.trainable = [parameter.requires_grad for parameter in self.parameters]
        graph = torch.cuda.CUDAGraph()
        torch.clear_autocast_cache()  # or the graph would lack the casts of the weights
        with torch.cuda.graph(graph, stream=self.stream):
            self.loss, self.logits = self._run(self.images, self.labels)
        torch.clear_autocast_cache()
        self.gradients = [parameter.grad for parameter in self.parameters]
        self.module.zero_grad()
        self.graph = graph

    def _run(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.module.zero_grad()
        loss, logits = self.training_loss(images, labels)
        loss.backward()
        return loss.detach(), logits.detach()


def describe(images: Tensor, labels: Tensor) -> tuple[object, ...]:
    """What a graph expects of its batches."""
    return images.shape, images.dtype, labels.shape, labels.dtype


def find_obstacle(module: Any) -> str | None:
    """What speaks against a captured step before it is tried, if anything."""
    hooks = (
        *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
        "_post_accumulate_grad_hooks",
    )
    if module.trainer.scaler is not None:
        return "precision 16-mixed scales gradients"
    if module.trainer.accumulate_grad_batches > 1:
        return "gradients are accumulated"
    parts = (*module.modules(), *module.parameters())
    if any(getattr(part, hook, None) for part in parts for hook in hooks):
        return "hooks are registered"
    return None


def cpu_random_states() -> bytes:
    """The states of the random generators on the CPU, to compare."""
    return pickle.dumps((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()))


@contextlib.contextmanager
def unchanged_state(module: LightningModule, stream: torch.cuda.Stream) -> Iterator[None]:
    """Restores buffers and random numbers, and runs on another stream, as captures need.

    ``self.log`` raises an error, as a graph would not log.
    """
    buffers = [buffer.clone() for buffer in module.buffers()]
    hook, module._current_fx_name = module._current_fx_name, None
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with isolate_rng(), torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(stream.device).wait_stream(stream)
    module._current_fx_name = hook
    for buffer, value in zip(module.buffers(), buffers, strict=True):
        buffer.copy_(value)


@contextlib.contextmanager
def error_on_sync() -> Iterator[None]:
    """Raises RuntimeError where the CPU waits for the GPU."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype feature")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)
