"""Knowledge distillation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fmnist_lightning.data.datamodule import InMemoryDataModule
from fmnist_lightning.training.checkpoint import build_classifier, read_checkpoint
from fmnist_lightning.training.module import FashionClassifier


class Distillation(Callback):
    """Trains on the class probabilities that a trained network, the teacher, gives each batch.

    They replace the labels in the loss (https://arxiv.org/abs/1503.02531, without temperature), and
    so in the curve ``train/loss_step``. The teacher gets the same augmented images
    (https://arxiv.org/abs/2106.05237), in one view.

    Args:
        teacher: The checkpoint of a network that was trained with the same validation images. It is
            read when ``fit`` starts or resumes, which raises ValueError if it is another one, or
            its classes or validation images are others.
        trusted: Classes of the teacher that are not of this package, see ``load_classifier``.
    """

    def __init__(self, teacher: str, trusted: Sequence[str] = ()) -> None:
        self.path = teacher
        self.trusted = tuple(trusted)
        self.source: dict[str, Any] | None = None  # run and step that the teacher is from

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the teacher, and has the module learn from it."""
        assert isinstance(pl_module, FashionClassifier)
        if not Path(self.path).is_file():
            raise ValueError(
                f"there is no teacher {self.path}: train one first, as with fit --config fast, and "
                f"copy its best.ckpt to {self.path}"
            )
        checkpoint = read_checkpoint(self.path)
        source = {key: checkpoint.get(key) for key in ("run", "global_step")}
        if self.source not in (None, source):
            raise ValueError(
                f"the teacher {self.path} is {source}, but the run began with {self.source}"
            )
        self.source = source
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, InMemoryDataModule):
            saved = checkpoint.get(type(data).__qualname__, {})
            theirs, ours = (
                {key: split.get(key) for key in ("split_seed", "val_size")}
                for split in (saved, data.split_args)
            )
            if theirs != ours:
                raise ValueError(
                    f"the teacher {self.path} was trained with {theirs}, not {ours}: its training "
                    "images may include validation images"
                )
        teacher = build_classifier(checkpoint, self.path, self.trusted).to(pl_module.device)
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

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the module learn from labels again."""
        if isinstance(pl_module, FashionClassifier):
            pl_module.soft_labels = None

    def state_dict(self) -> dict[str, Any]:
        """Which teacher it is, for the checkpoint."""
        return {"source": self.source}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores which teacher a resumed run began with."""
        self.source = state_dict["source"]
