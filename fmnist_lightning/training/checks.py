"""What a module refuses before it goes wrong in silence, each in one line."""

from typing import Any

import torch
from torch import Tensor

from fmnist_lightning.data.checks import check_labels, describe, to_uint8
from fmnist_lightning.data.hash_split import HashSplitDataModule
from fmnist_lightning.internals.specs import find_difference


def check_classes(module: Any) -> None:
    """Raises ValueError for data whose classes have other names, or stand in another order."""
    trainer, data = module.trainer, module.trainer.datamodule
    loaders = (trainer.train_dataloader, trainer.val_dataloaders, trainer.test_dataloaders)
    datasets = [getattr(loader, "dataset", None) for loader in loaders]
    parents = [getattr(dataset, "dataset", None) for dataset in datasets]  # of a Subset
    sources = [*datasets, *parents]
    if hasattr(data, "classes") and not isinstance(data, HashSplitDataModule):
        sources = [data]
    for source in sources:
        names = tuple(getattr(source, "classes", module.classes))
        if names != module.classes:
            raise ValueError(
                f"the data has the classes {', '.join(names)}, and the network has "
                f"{', '.join(module.classes)}: they must be the same, in the same order; in a "
                "script, give FashionClassifier(classes=data.classes)"
            )
    made_for = getattr(module.augmentation, "classes", module.classes)
    if made_for != module.classes:
        raise ValueError(
            f"{type(module.augmentation).__name__} is for the classes {', '.join(made_for)}, not "
            f"{', '.join(module.classes)}; for photos in own classes, use --config own-images"
        )


def check_settings(saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Raises ValueError for a run that is resumed with other settings than it began with."""
    if difference := find_difference(saved, current):
        name, value, other = difference
        raise ValueError(
            f"the run was trained with {name} {value}, not {other}; resume it with the same "
            "settings"
        )


def unpack(batch: Any, num_classes: int, is_first: bool) -> tuple[Tensor, Tensor]:
    """Images, uint8, shape (N, 28, 28), and labels, int64, shape (N,), of a batch.

    Raises ValueError for a first batch of another kind.
    """
    if is_first:
        is_pair = isinstance(batch, list | tuple) and len(batch) == 2
        if not is_pair or not all(isinstance(part, Tensor) for part in batch):
            raise ValueError("a batch must be a pair of tensors, images and labels")
        labels = batch[1]
        if labels.dtype != torch.int64 or labels.dim() != 1:
            raise ValueError(f"labels must be int64, shape (N,); a batch has {describe(labels)}")
        check_labels(labels, num_classes)
    return to_uint8(batch[0]), batch[1]


def check_logits(logits: Tensor, num_classes: int) -> Tensor:
    """Logits, or ValueError if they are not of shape (N, num_classes)."""
    expected = (len(logits), num_classes)
    if logits.shape != expected:
        raise ValueError(
            f"the network returns shape {tuple(logits.shape)} for {num_classes} classes; "
            f"expected {expected}. Add an argument num_classes to the network: it is filled in"
        )
    return logits
