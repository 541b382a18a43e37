"""Forward and backward pass as one graph of ``torch.compile``."""

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.nn import functional as F

IGNORE_INDEX = -100  # that of F.cross_entropy


def require_compiler() -> None:
    """Raises ValueError if there is no C++ compiler, which ``torch.compile`` needs for a CPU."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "compile needs a C++ compiler, such as g++ or clang++: install one, or train without "
            "compile"
        ) from error


class CompiledStep:
    """Computes loss, logits and gradients of a batch in one graph.

    A network that is compiled on its own has two graphs, forward and backward. What autograd does
    between them takes a small network longer than they save.

    Args:
        module: The module, in its ``setup``.
        compute_logits: Its method from images to logits.
    """

    def __init__(self, module: LightningModule, compute_logits: Callable[[Tensor], Tensor]) -> None:
        # Off by default: https://github.com/pytorch/pytorch/pull/169493.
        torch._dynamo.config.trace_autograd_ops = True
        self.compute_logits = compute_logits
        self.parameters = list(module.parameters())
        self.gradients: Sequence[Tensor | None] = ()
        self.compiled = torch.compile(
            self._forward_backward,
            # A graph for each batch size: one for all would come later, with other roundings.
            dynamic=False,
            # Kernels that are called by C++ and not by Python.
            options={"cpp_wrapper": module.trainer.strategy.root_device.type == "cpu"},
        )

    @classmethod
    def create(
        cls, module: LightningModule, compute_logits: Callable[[Tensor], Tensor]
    ) -> "CompiledStep | None":
        """The step of a module in ``setup``, if one device gets the gradients as they are.

        None with other strategies, 16-bit floats that are scaled, and PyTorch before 2.11.
        """
        trainer = module.trainer
        if (
            type(trainer.strategy) is not SingleDeviceStrategy
            or trainer.scaler is not None
            or not hasattr(torch._dynamo.config, "trace_autograd_ops")
        ):
            return None
        rank_zero_info("compiling the training step: up to half a minute, seconds in later runs")
        return cls(module, compute_logits)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy, shape (), and logits, shape (N, C). Keeps the gradients."""
        loss, logits, self.gradients = self.compiled(images, labels)
        return loss, logits

    def backward(self, num_accumulated: int) -> None:
        """Gives the parameters their gradients, divided by a number of batches and added up."""
        for parameter, gradient in zip(self._trainable(), self.gradients, strict=True):
            if num_accumulated > 1 and gradient is not None:
                gradient = gradient / num_accumulated
                if parameter.grad is not None:
                    gradient += parameter.grad
            parameter.grad = gradient

    def _trainable(self) -> list[Tensor]:
        """The parameters that are not frozen, which callbacks change."""
        return [parameter for parameter in self.parameters if parameter.requires_grad]

    def _forward_backward(
        self, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
        logits = self.compute_logits(images)
        if not labels.is_floating_point():
            # A wrong label would abort the process. The metrics raise an error for it.
            wrong = (labels >= logits.shape[1]) | ((labels < 0) & (labels != IGNORE_INDEX))
            labels = labels.masked_fill(wrong, 0)
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, self._trainable(), allow_unused=True)
        return loss.detach(), logits.detach(), gradients
