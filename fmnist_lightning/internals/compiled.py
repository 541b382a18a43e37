"""A training step that is compiled."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from fmnist_lightning.internals.gradients import attach_gradients

IGNORE_INDEX = -100  # that of F.cross_entropy


class CompiledStep:
    """Computes loss, logits and gradients of a batch in one graph of ``torch.compile``.

    A network that is compiled on its own has two graphs, forward and backward. What autograd does
    between them takes a small network longer than they save.
    """

    def __init__(
        self,
        compute_loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        num_classes: int,
        parameters: Sequence[nn.Parameter],
        on_cpu: bool,
    ) -> None:
        # Off by default: https://github.com/pytorch/pytorch/pull/169493.
        torch._dynamo.config.trace_autograd_ops = True
        self.compute_loss = compute_loss
        self.num_classes = num_classes
        self.parameters = parameters
        self.compiled = torch.compile(
            self._forward_backward,
            # A graph for each batch size: one for all would come later, with other roundings.
            dynamic=False,
            # Kernels that are called by C++ and not by Python.
            options={"cpp_wrapper": on_cpu},
        )

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, shape (), with its gradients, and the logits, shape (N, C)."""
        loss, logits, gradients = self.compiled(images, targets)
        return attach_gradients(loss, self._trainable(), gradients), logits

    def _trainable(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters if parameter.requires_grad]

    def _forward_backward(
        self, images: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
        if not targets.is_floating_point():
            # A wrong label would abort the process. The metrics raise an error for it.
            is_negative = (targets < 0) & (targets != IGNORE_INDEX)
            targets = targets.masked_fill(is_negative | (targets >= self.num_classes), 0)
        loss, logits = self.compute_loss(images, targets)
        gradients = torch.autograd.grad(loss, self._trainable(), allow_unused=True)
        return loss.detach(), logits.detach(), gradients


def require_compiler() -> None:
    """Raises ValueError if there is no C++ compiler, which ``torch.compile`` needs for a CPU."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "compile needs a C++ compiler, such as g++ or clang++: install one, or train without "
            "compile"
        ) from error
