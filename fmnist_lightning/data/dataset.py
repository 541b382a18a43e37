"""Fashion-MNIST in memory: class names, dataset, split. Plain PyTorch."""

import copy
import os
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.mnist import read_image_file, read_label_file

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
NUM_CLASSES = len(CLASSES)
IMAGE_SIZE = 28  # height and width in pixels
Batch = tuple[Tensor, Tensor]  # images, uint8, (N, H, W), and labels, int64, (N,)


class TensorImageDataset(Dataset[Batch]):
    """Images and labels as two tensors, decoded once. A whole batch is one indexed read.

    Args:
        images: uint8, shape (N, H, W).
        labels: Class indices from 0, int64, shape (N,).

    Raises:
        ValueError: If a tensor has another type or shape, or a label is negative.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        types = (images.dtype, images.dim(), labels.dtype)
        if types != (torch.uint8, 3, torch.int64) or labels.shape != images.shape[:1]:
            raise ValueError(
                "images must be uint8 of shape (N, H, W), and labels int64 of shape (N,); got "
                f"{images.dtype} {tuple(images.shape)} and {labels.dtype} {tuple(labels.shape)}"
            )
        if (labels < 0).any():
            raise ValueError(f"labels must be at least 0, not {labels.min()}")
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | Tensor) -> Batch:
        """One image (H, W) and label (); or M of them, for an index of shape (M,), int64."""
        if isinstance(index, Tensor) and index.dim():  # several times faster than indexing
            return self.images.index_select(0, index), self.labels.index_select(0, index)
        return self.images[index], self.labels[index]

    def subset(self, indices: Tensor) -> "TensorImageDataset":
        """A dataset with copies of the images and labels at ``indices``, int64, shape (M,)."""
        return TensorImageDataset(*self[indices])

    def to(self, device: torch.device) -> "TensorImageDataset":
        """The dataset on ``device``; tensors that are there already are shared, not copied."""
        moved = copy.copy(self)  # without __init__: these tensors need no second check
        moved.images, moved.labels = self.images.to(device), self.labels.to(device)
        return moved


def global_seed() -> int | None:
    """The seed of Lightning's ``seed_everything``; None where it was not called."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed else None


def read_dataset(folder: Path, *, train: bool) -> TensorImageDataset:
    """Reads the 60,000 training or the 10,000 test images from the IDX files in ``folder``."""
    stem = "train" if train else "t10k"
    images = read_image_file(str(folder / f"{stem}-images-idx3-ubyte"))
    labels = read_label_file(str(folder / f"{stem}-labels-idx1-ubyte"))
    return TensorImageDataset(images, labels)


def split_indices(
    num: int, train_size: int, val_size: int, split_seed: int
) -> tuple[Tensor, Tensor]:
    """Splits ``range(num)`` at random: disjoint training and validation indices, both int64.

    They are the start and the end of the shuffled range, so validation does not depend on
    ``train_size``. Raises ValueError if a part is empty, or they don't fit.
    """
    if train_size < 1 or val_size < 1 or train_size + val_size > num:
        raise ValueError(
            f"cannot split {num:,} images into train_size {train_size:,} and val_size "
            f"{val_size:,}: both must be at least 1 and their sum at most {num:,}"
        )
    order = torch.randperm(num, generator=torch.Generator().manual_seed(split_seed))
    return order[:train_size], order[num - val_size :]
