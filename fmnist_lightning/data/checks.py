"""What images and labels have to be, and how others are converted or refused."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.data.dataset import IMAGE_SIZE as SIZE


def to_uint8(images: Tensor) -> Tensor:
    """Images as uint8, shape (N, 28, 28).

    Those of torchvision's ``ToTensor``, floats from 0 to 1, shape (N, 1, 28, 28), are converted.
    Raises ValueError for images of another kind.
    """
    is_float = images.is_floating_point()
    is_known = 0 <= images.min() <= images.max() <= 1 if is_float else images.dtype == torch.uint8
    if not is_known or images.shape[1:] not in ((SIZE, SIZE), (1, SIZE, SIZE)):
        raise ValueError(
            "images must be uint8, or float from 0 to 1 without normalization, shape (N, 28, 28) "
            f"or (N, 1, 28, 28); a batch has {describe(images)}"
        )
    if images.dim() == 4:
        images = images.squeeze(1)
    return (images * 255).round().to(torch.uint8) if is_float else images


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


def check_split(saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Raises ValueError for a split other than the saved one; own images save none."""
    for name, value in current.items():
        if saved.get(name, value) != value:
            raise ValueError(
                f"the network was trained with {name} {saved[name]}, not {value}: images it was "
                "trained on would count as validation images"
            )


def is_fashion_mnist(classes: Sequence[str]) -> bool:
    """Whether a network of these classes was trained on Fashion-MNIST, and not on own images.

    No folder can have the name ``T-shirt/top``.
    """
    return tuple(classes) == CLASSES
