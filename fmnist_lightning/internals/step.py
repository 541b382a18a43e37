"""Ways to run a training step, other than op by op.

Each is a function ``(images, targets) -> (loss, logits)`` that replaces the ``compute_loss`` of a
module during ``fit``. Its gradients are computed with its loss: :func:`attach_gradients` gives them
to the parameters in ``loss.backward()``, so that nothing else has to know of it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from typing_extensions import override

from fmnist_lightning.internals.console import print_line

IGNORE_INDEX = -100  # that of F.cross_entropy


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


class CompiledStep:
    """Computes loss, logits and gradients of a batch in one graph of ``torch.compile``.

    A network that is compiled on its own has two graphs, forward and backward. What autograd does
    between them takes a small network longer than they save.

    Args:
        compute_loss: From images and targets to loss and logits, shape (N, C).
        num_classes: C.
        parameters: All parameters; callbacks may freeze some.
        on_cpu: Whether the step runs on a CPU.
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


class CompileStep(Callback):
    """Trains with ``torch.compile``.

    Forward and backward pass are one graph. With several devices, 16-bit floats that are scaled, a
    ``training_step`` of your own, or PyTorch before 2.11, only the network is compiled.
    """

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        module: Any = pl_module  # a FashionClassifier
        on_cpu = trainer.strategy.root_device.type == "cpu"
        if on_cpu:
            require_compiler()
        if can_compile_step(trainer, pl_module):
            print_line("Compiling the training step: up to half a minute, seconds in later runs")
            module.compute_loss = CompiledStep(
                module.compute_loss, len(module.classes), list(module.parameters()), on_cpu
            )
        else:
            module.network.compile()  # in place, which keeps the names of its weights

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        vars(pl_module).pop("compute_loss", None)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")


def can_compile_step(trainer: Trainer, module: LightningModule) -> bool:
    """Whether one device gets the gradients as they are, and ``training_step`` calls the loss.

    A ``training_step`` of a subclass, for which no ``compute_loss`` was written, may not.
    """
    step_class, loss_class = (
        next(cls for cls in type(module).__mro__ if name in vars(cls))
        for name in ("training_step", "compute_loss")
    )
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and trainer.scaler is None
        and hasattr(torch._dynamo.config, "trace_autograd_ops")
        and issubclass(loss_class, step_class)
    )


def require_compiler() -> None:
    """Raises ValueError if there is no C++ compiler, which ``torch.compile`` needs for a CPU."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "compile needs a C++ compiler, such as g++ or clang++: install one, or train without "
            "compile"
        ) from error
