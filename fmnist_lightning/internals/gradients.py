"""Gradients that are computed with their loss, given to the parameters in ``loss.backward()``."""

from collections.abc import Sequence

from torch import Tensor, nn


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

    attached = loss.clone().requires_grad_()
    # Where the loss is divided first, as for accumulated batches.
    attached.register_hook(backward)  # type: ignore[no-untyped-call]
    attached.backward = backward  # type: ignore[assignment]  # without autograd, which takes longer
    return attached
