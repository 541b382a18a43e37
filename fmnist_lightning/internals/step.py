"""Ways to run a training step, other than op by op.

Each is a function that replaces a method of a ``FashionClassifier`` during ``fit`` and returns the
same loss and logits. Its gradients are computed with its loss: ``loss.backward()`` gives them to
the parameters, so that nothing else has to know of it.
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from typing_extensions import override

from fmnist_lightning.internals.captured import CapturedStep
from fmnist_lightning.internals.compiled import CompiledStep, require_compiler
from fmnist_lightning.internals.console import print_line


class ReplaceStep(Callback):
    """Trains with ``torch.compile``, or with a CUDA graph, or both.

    A compiled step is forward and backward pass as one graph. With several devices, precision
    16-mixed, a ``training_step`` of your own, or PyTorch before 2.11, only the network is compiled.
    A captured step has augmentation, too. It needs one CUDA device. Optimizers on GPUs are fused.
    """

    def __init__(self, compile: bool, capture: bool) -> None:
        self.compile = compile
        self.capture = capture

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        module: Any = pl_module  # a FashionClassifier
        device = trainer.strategy.root_device.type
        is_single = type(trainer.strategy) is SingleDeviceStrategy
        if self.compile:
            if device == "cpu":
                require_compiler()
            if is_single and can_compile_step(trainer, pl_module):
                print_line(
                    "Compiling the training step: up to half a minute, seconds in later runs"
                )
                module.compute_loss = CompiledStep(
                    module.compute_loss,
                    len(module.classes),
                    list(module.parameters()),
                    device == "cpu",
                )
            else:
                module.network.compile()  # in place, which keeps the names of its weights
        if self.capture and is_single and device == "cuda" and is_called(module, "training_loss"):
            module.training_loss = CapturedStep(module)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has optimizers on a GPU update all parameters in one kernel, where they can."""
        if trainer.strategy.root_device.type != "cuda":
            return
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                # None is PyTorch's default: nobody has chosen.
                if group.get("fused", True) is None and not group.get("foreach"):
                    group["fused"] = True

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(step := vars(pl_module).get("training_loss"), CapturedStep):
            step.is_stale = True

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for name in ("compute_loss", "training_loss"):
            vars(pl_module).pop(name, None)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")


def can_compile_step(trainer: Trainer, module: LightningModule) -> bool:
    """Whether the gradients are used as they are, and ``training_step`` calls ``compute_loss``."""
    return (
        trainer.scaler is None
        and hasattr(torch._dynamo.config, "trace_autograd_ops")
        and is_called(module, "compute_loss")
    )


def is_called(module: LightningModule, method: str) -> bool:
    """Whether the ``training_step`` in use calls a method of ``FashionClassifier``.

    Not where a subclass overrides ``training_step``, and not the method.
    """
    step_class, method_class = (
        next(cls for cls in type(module).__mro__ if name in vars(cls))
        for name in ("training_step", method)
    )
    return issubclass(method_class, step_class)
