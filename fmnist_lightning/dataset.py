"""The data set in memory, and its split. Plain PyTorch: nothing here knows of Lightning."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
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


class PictureDataset(Dataset[Batch]):
    """Pictures and labels as two tensors, decoded once.

    An ordinary ``DataLoader`` finds ``__getitems__`` and asks for a whole batch of indices in one
    call, so that a batch costs one indexed read; its ``collate_fn`` must then be the identity.

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

    def __getitem__(self, index: int) -> Batch:
        """One picture, shape (28, 28), and its label, shape ()."""
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        """One batch: pictures, shape (len(indices), 28, 28), and labels, shape (len(indices),)."""
        index = torch.tensor(indices)
        return self.images[index], self.labels[index]

    def subset(self, indices: Tensor) -> "PictureDataset":
        """A data set of its own that holds copies of the pictures at ``indices``, shape (M,)."""
        return PictureDataset(self.images[indices], self.labels[indices])


def read_dataset(folder: Path, *, train: bool) -> PictureDataset:
    """Reads the official training or test set from its IDX files.

    Args:
        folder: The folder with the four files, see :func:`fmnist_lightning.sources.fetch`.
        train: The 60,000 training pictures, or else the 10,000 test pictures.

    Returns:
        The pictures in the order of the files.
    """
    stem = "train" if train else "t10k"
    return PictureDataset(
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
