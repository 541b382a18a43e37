"""The data set in memory, and its split. Plain PyTorch: nothing here knows of Lightning."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler
from torchvision.datasets.mnist import read_image_file, read_label_file

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
NUM_CLASSES = len(CLASSES)

Batch = tuple[Tensor, Tensor]


class TensorImageDataset(Dataset[Batch]):
    """Pictures and labels as two tensors, decoded once.

    Args:
        images: Pictures, uint8, shape (N, 28, 28).
        labels: Class numbers, int64, shape (N,).

    Raises:
        ValueError: If there are not as many labels as pictures.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} pictures but {len(labels)} labels")
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | Tensor) -> Batch:
        """One picture, shape (28, 28), and its label, shape (); or a batch of them in one read.

        Args:
            index: Of one picture, or of the M pictures of a batch: int64, shape (M,), on the
                device of the pictures.

        Returns:
            Picture and label; for a batch, shapes (M, 28, 28) and (M,).
        """
        # index_select is several times faster than indexing
        if isinstance(index, Tensor) and index.dim():
            return self.images.index_select(0, index), self.labels.index_select(0, index)
        return self.images[index], self.labels[index]

    def subset(self, indices: Tensor) -> "TensorImageDataset":
        """A data set of its own that holds copies of the pictures at ``indices``, shape (M,)."""
        return TensorImageDataset(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> "TensorImageDataset":
        """The data set on ``device``; itself where it is there already."""
        if self.images.device == device:
            return self
        return TensorImageDataset(self.images.to(device), self.labels.to(device))


class DistributedBatchSampler(DistributedSampler[Batch]):
    """Gives the pictures' indices a batch at a time, as tensors on the pictures' device.

    For a ``DataLoader`` with ``batch_size=None``, which then asks the data set for whole batches.
    All processes together see each picture once. Only where a shuffled set can't be shared out
    evenly, the first of its order come again, because in training all must take equally many steps.
    Lightning leaves a ``DistributedSampler`` in place on any number of devices, and tells it the
    epoch.

    Args:
        dataset: What to cut into batches.
        batch_size: Pictures in a batch of this process.
        shuffle: In an order that depends on seed and epoch alone, or else in the data set's own.
        seed: Of the order.
        num_replicas: How many processes share the pictures.
        rank: The number of this process.
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
        self.device = dataset.images.device
        padding = -len(dataset) % num_replicas if shuffle else 0
        self.total_size = len(dataset) + padding
        self.num_samples = len(range(rank, self.total_size, num_replicas))

    def __len__(self) -> int:
        """The number of batches."""
        return math.ceil(self.num_samples / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        num = len(self.dataset)  # type: ignore[arg-type]
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(num, generator=generator)
        else:
            order = torch.arange(num)
        order = order.repeat(math.ceil(self.total_size / num))[: self.total_size]
        order = order[self.rank :: self.num_replicas]
        if self.device.type == "cuda":  # the one copy of the epoch, which nothing waits for
            order = order.pin_memory()
        return iter(torch.split(order.to(self.device, non_blocking=True), self.batch_size))


def read_dataset(folder: Path, *, train: bool) -> TensorImageDataset:
    """Reads the official training or test set from its IDX files.

    Args:
        folder: The folder with the four files, see :func:`fmnist_lightning.data.download.fetch`.
        train: The 60,000 training pictures, or else the 10,000 test pictures.

    Returns:
        The pictures in the order of the files.
    """
    stem = "train" if train else "t10k"
    return TensorImageDataset(
        read_image_file(str(folder / f"{stem}-images-idx3-ubyte")),
        read_label_file(str(folder / f"{stem}-labels-idx1-ubyte")),
    )


def split_indices(num: int, train_size: int, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Splits ``range(num)`` at random into two parts that share nothing.

    The validation part is cut from the end of the shuffled indices and the training part from their
    start, so that with the same seed a smaller training part leaves the validation part as it is.

    Args:
        num: How many pictures there are.
        train_size: How many of them are for training.
        val_size: How many of them are for validation.
        seed: Of the shuffle.

    Returns:
        Indices for training, int64, shape (train_size,), and for validation, shape (val_size,).

    Raises:
        ValueError: If the parts are empty or don't fit.
    """
    if train_size < 1 or val_size < 1 or train_size + val_size > num:
        raise ValueError(
            f"cannot split {num:,} pictures into train_size {train_size:,} and val_size "
            f"{val_size:,}: both must be at least 1 and their sum at most {num:,}"
        )
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    return order[:train_size], order[num - val_size :]


def global_seed() -> int | None:
    """The seed of Lightning's ``seed_everything``, or None where it was not called."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return None if seed is None else int(seed)
