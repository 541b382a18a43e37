"""Gradients that are computed with their loss, given to the parameters in ``loss.backward()``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override


class ComputedBackward(torch.autograd.Function):
    """The identity, whose backward pass calls a function with the gradient of the output."""

    @staticmethod
    @override
    def forward(
        ctx: Any, anchor: Tensor, loss: Tensor, backward: Callable[[Tensor], None]
    ) -> Tensor:
        ctx.backward = backward
        return loss.clone()

    @staticmethod
    @override
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[None, None, None]:
        ctx.backward(grad_loss)
        return None, None, None


def attach_gradients(
    loss: Tensor, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]
) -> Tensor:
    """Lets ``loss.backward()`` give the parameters gradients that are computed already."""

    def backward(grad_loss: Tensor | None = None) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if grad_loss is not None:
                gradient = gradient * grad_loss
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    # The anchor has autograd call it where the loss is divided, as for accumulated batches.
    anchor = torch.empty((), requires_grad=True)
    attached: Tensor = ComputedBackward.apply(anchor, loss, backward)
    attached.backward = backward  # type: ignore[assignment]  # without autograd, which takes longer
    return attached
