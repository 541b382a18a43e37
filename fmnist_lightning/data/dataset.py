"""Fashion-MNIST in memory: images and labels, split, batches of indices. Plain PyTorch."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler
from torchvision.datasets.mnist import read_image_file, read_label_file
from typing_extensions import override

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
NUM_CLASSES = len(CLASSES)
IMAGE_SIZE = 28  # height and width in pixels
Batch = tuple[Tensor, Tensor]  # images, uint8, (N, H, W), and labels, int64, (N,)


class TensorImageDataset(Dataset[Batch]):
    """Images and labels as two tensors. A whole batch is read at once.

    Args:
        images: uint8, shape (N, H, W).
        labels: Class indices from 0, int64, shape (N,).
        hashes: int64, shape (N,); by them ``HashSplitDataModule`` splits own images.

    Raises:
        ValueError: If there are not as many labels as images.
    """

    classes: Sequence[str]  # the names of the labels; a loader of a data module sets them

    def __init__(self, images: Tensor, labels: Tensor, hashes: Tensor | None = None) -> None:
        if len(images) != len(labels):
            raise ValueError(f"there are {len(images):,} images, but {len(labels):,} labels")
        self.images, self.labels, self.hashes = images, labels, hashes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | Tensor) -> Batch:
        """One image, (H, W), and its label; or M of them, for an index of shape (M,), int64."""
        if isinstance(index, Tensor) and index.dim():  # index_select is faster than indexing
            return self.images.index_select(0, index), self.labels.index_select(0, index)
        return self.images[index], self.labels[index]

    def subset(self, indices: Tensor) -> "TensorImageDataset":
        """Copies the images and labels at ``indices``, int64, shape (M,), or bool, shape (N,)."""
        hashes = None if self.hashes is None else self.hashes[indices]
        return TensorImageDataset(self.images[indices], self.labels[indices], hashes)

    def to(self, device: torch.device) -> "TensorImageDataset":
        """The dataset on ``device``; tensors that are there already are shared, not copied."""
        return TensorImageDataset(self.images.to(device), self.labels.to(device))


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

    They are the start and the end of the shuffled range, so the validation images do not depend on
    ``train_size``. Raises ValueError if one would be empty, or ``num`` is too small for both.
    """
    if train_size < 1 or val_size < 1 or train_size + val_size > num:
        raise ValueError(
            f"cannot split {num:,} images into train_size {train_size:,} and val_size "
            f"{val_size:,}: both must be at least 1 and their sum at most {num:,}"
        )
    order = torch.randperm(num, generator=torch.Generator().manual_seed(split_seed))
    return order[:train_size], order[num - val_size :]


class DistributedBatchSampler(DistributedSampler[Batch]):
    """Yields the indices of each batch, int64, shape (batch_size,), on the dataset's device.

    It is a ``DistributedSampler``, because Lightning replaces any other one on several devices.
    With ``shuffle``, the order depends on seed and epoch; Lightning calls ``set_epoch``. Of several
    devices, each rank takes every ``num_replicas``-th index; with ``shuffle``, all take equally
    many, so up to ``num_replicas - 1`` images come twice, and a last batch of one image, on which
    batch normalization can't be trained, is left out.
    """

    def __init__(
        self,
        dataset: TensorImageDataset,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle, seed)
        self.batch_size = batch_size
        self.num, self.device = len(dataset), dataset.images.device
        if not shuffle:  # the base class would repeat images, which would count twice
            self.total_size = self.num
            self.num_samples = len(range(rank, self.num, num_replicas))
        elif self.num_samples > batch_size > 1 and self.num_samples % batch_size == 1:
            self.num_samples -= 1

    @override
    def __len__(self) -> int:
        return len(range(0, self.num_samples, self.batch_size))

    @override
    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        # A generator, so the order is drawn when the first batch is asked for: a resumed run makes
        # the iterator before Lightning sets the epoch.
        order = torch.arange(self.num)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(self.num, generator=generator)
        positions = torch.arange(self.total_size)[self.rank :: self.num_replicas] % self.num
        order = order[positions][: self.num_samples].to(self.device)
        yield from torch.split(order, self.batch_size)


def global_seed() -> int | None:
    """The seed of Lightning's ``seed_everything``; None where it was not called."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed else None
