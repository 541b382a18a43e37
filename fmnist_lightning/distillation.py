"""Knowledge distillation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor
from typing_extensions import override

from fmnist_lightning.data.datamodule import InMemoryDataModule
from fmnist_lightning.runs.checkpoint import load_classifier
from fmnist_lightning.runs.run_checkpoint import BEST


class Distillation(Callback):
    """Trains on the class probabilities that a trained network, the teacher, gives each batch.

    They replace the labels in the loss (https://arxiv.org/abs/1503.02531, without temperature), and
    so in the curve ``train/loss_step``. The teacher gets the same augmented images
    (https://arxiv.org/abs/2106.05237), in one view.

    Args:
        teacher: The checkpoint of a network of the same classes, trained with the same validation
            images, or the name of one of this package. It is read when ``fit`` starts or resumes; a
            ValueError refuses any other.
        trusted: Classes of the teacher that are not of this package, see ``load_classifier``.
    """

    def __init__(self, teacher: str, trusted: Sequence[str] = ()) -> None:
        self.path = teacher
        self.trusted = tuple(trusted)

    @override
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if Path(self.path).absolute() == BEST.absolute():
            raise ValueError(
                f"fit replaces the teacher {self.path}: copy it to teacher.ckpt, and name the copy"
            )
        teacher = load_classifier(self.path, self.trusted).to(pl_module.device)
        if isinstance(trainer.datamodule, InMemoryDataModule):
            for state in teacher.trained_on:
                trainer.datamodule.exclude_trained(state)
        if teacher.classes != pl_module.classes:
            raise ValueError(
                f"the teacher {self.path} has the classes {', '.join(teacher.classes)}, not "
                f"{', '.join(pl_module.classes)}"
            )

        @torch.no_grad()
        def soft_labels(images: Tensor) -> Tensor:
            logits: Tensor = teacher.network(teacher.preprocess(images))
            return logits.float().softmax(dim=1)

        pl_module.soft_labels = soft_labels

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        pl_module.soft_labels = None
