"""What a module refuses before it goes wrong in silence, each in one line."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fmnist_lightning.data.datamodule import InMemoryDataModule
from fmnist_lightning.data.dataset import IMAGE_SIZE as SIZE
from fmnist_lightning.internals.specs import find_difference


def check_classes(module: Any) -> None:
    """Raises ValueError for data whose classes have other names, or stand in another order."""
    data = module.trainer.datamodule
    names = tuple(getattr(data, "classes", module.classes))
    if names != module.classes and not isinstance(data, InMemoryDataModule):  # matches them itself
        raise ValueError(
            f"the data has the classes {', '.join(names)}, and the network has "
            f"{', '.join(module.classes)}: they must be the same, in the same order; in a script, "
            "give FashionClassifier(classes=data.classes)"
        )


def check_settings(module: Any, checkpoint: dict[str, Any]) -> None:
    """Raises ValueError for a run that is resumed with other settings than it began with."""
    if module._trainer is None or module.trainer.state.fn != "fit":
        return
    if difference := find_difference(checkpoint["hyper_parameters"], dict(module.hparams)):
        name, saved, current = difference
        raise ValueError(
            f"the run was trained with {name} {saved}, not {current}; resume it with the same "
            "settings"
        )


def unpack(batch: Sequence[Any], num_classes: int, is_first: bool) -> Any:
    """Images, uint8, shape (N, 28, 28), and labels, int64, (N,), or None in a batch without.

    Images of shape (N, 1, 28, 28) and floats from 0 to 1, as those of torchvision's ``ToTensor``,
    are converted. Raises ValueError for a first batch that is none of these.
    """
    images, labels = batch if len(batch) > 1 else (batch[0], None)
    is_float = images.is_floating_point()
    if is_first:
        is_known = is_float or images.dtype == torch.uint8
        has_size = images.shape[1:] in ((SIZE, SIZE), (1, SIZE, SIZE))
        if not (is_known and has_size) or (is_float and not 0 <= images.min() <= images.max() <= 1):
            raise ValueError(
                "images must be uint8, or float from 0 to 1 without normalization, shape "
                f"(N, 28, 28) or (N, 1, 28, 28); a batch has {describe(images)}"
            )
        if labels is not None and (labels.dtype != torch.int64 or labels.dim() != 1):
            raise ValueError(f"labels must be int64, shape (N,); a batch has {describe(labels)}")
        if labels is not None:
            check_labels(labels, num_classes)
    if images.dim() == 4:
        images = images.squeeze(1)
    return (images * 255).round().to(torch.uint8) if is_float else images, labels


def describe(tensor: Tensor) -> str:
    """Its type, shape and range, for an error."""
    return f"{tensor.dtype}, shape {tuple(tensor.shape)}, {tensor.min()} to {tensor.max()}"


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raises ValueError for labels, int64, shape (N,), that are no positions of a class."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels must be 0 to {num_classes - 1} for {num_classes} classes, not {low} to {high}"
        )


def check_logits(logits: Tensor, num_images: int, num_classes: int) -> Tensor:
    """Logits, or ValueError if they are not of shape (num_images, num_classes)."""
    expected = (num_images, num_classes)
    if logits.shape != expected:
        raise ValueError(
            f"the network returns shape {tuple(logits.shape)} for {num_classes} classes; "
            f"expected {expected}. Add an argument num_classes to the network: it is filled in"
        )
    return logits
