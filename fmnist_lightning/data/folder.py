"""Other datasets of this kind: folders of images, and IDX files such as those of MNIST."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.datasets.mnist import read_image_file, read_label_file
from tqdm.auto import tqdm
from typing_extensions import override

from fmnist_lightning.data.datamodule import InMemoryDataModule
from fmnist_lightning.data.dataset import IMAGE_SIZE, TensorImageDataset
from fmnist_lightning.data.download import DataError


class ImageFolderDataModule(InMemoryDataModule):
    """Images of any classes from a folder.

    The folder has images in ``train/CLASS/`` and ``test/CLASS/``, and in ``val/CLASS/`` where they
    are split already; or it has the IDX files of one dataset, named as those of MNIST, maybe with a
    prefix: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and the same with ``t10k`` or
    ``test``. The classes are the names of the folders, or the labels in the IDX files.

    Images are converted to grayscale (ITU-R 601, transparent pixels black), and stretched to 28x28
    pixels (bicubic, antialiased). IDX files must have this size.

    Args:
        data_dir: The folder.
        **kwargs: Of :class:`InMemoryDataModule`, such as ``batch_size``.

    Raises:
        DataError: If the folder has no images.
    """

    def __init__(self, data_dir: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = Path(data_dir).expanduser()
        self.classes = sorted(path.name for path in self.folder.glob("train/*") if path.is_dir())
        self.idx_labels: Tensor | None = None  # the labels of the classes in IDX files
        if not self.classes:
            self.idx_labels = read_label_file(self._idx_file("train", "labels-idx1")).unique()
            self.classes = [str(label) for label in self.idx_labels.tolist()]

    @override
    def read(self, split: str) -> TensorImageDataset | None:
        if split == "val" and not (self.folder / split).is_dir():
            return None
        if self.idx_labels is None:
            return read_image_folder(self.folder / split, self.classes)
        images = read_image_file(self._idx_file(split, "images-idx3"))
        labels = read_label_file(self._idx_file(split, "labels-idx1"))
        if images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise DataError(f"the images in {self.folder} have {tuple(images.shape[1:])} pixels")
        unknown = set(labels.tolist()) - set(self.idx_labels.tolist())
        if unknown:
            raise DataError(f"{self.folder} has labels without training images: {unknown}")
        return TensorImageDataset(images, torch.searchsorted(self.idx_labels, labels))

    def _idx_file(self, split: str, kind: str) -> str:
        names = ("t10k", "test") if split == "test" else (split,)
        paths = [path for name in names for path in self.folder.glob(f"*{name}-{kind}-ubyte")]
        if len(paths) != 1:
            raise DataError(
                f"{self.folder} needs folders train/CLASS and test/CLASS of images, or the four "
                "decompressed IDX files of one dataset; it has "
                f"{len(paths) or 'no'} *{names[0]}-{kind}-ubyte"
            )
        return str(paths[0])


def read_image_folder(folder: Path, classes: Sequence[str]) -> TensorImageDataset:
    """Reads the images in ``folder/CLASS/``; their labels are the positions in ``classes``."""
    files = ImageFolder(str(folder))
    unknown = set(files.classes) - set(classes)
    if unknown:
        raise DataError(f"{folder} has classes without training images: {sorted(unknown)}")
    paths = [path for path, _ in files.samples]
    with ThreadPoolExecutor() as pool:
        progress = tqdm(pool.map(read_grayscale, paths), f"reading {folder}", len(paths), delay=1)
        images = torch.from_numpy(np.stack(list(progress)))  # (N, 28, 28)
    # A folder without some of the classes numbers the others anew.
    labels = [classes.index(files.classes[number]) for number in files.targets]
    return TensorImageDataset(images, torch.tensor(labels))


def read_grayscale(path: str) -> np.ndarray:
    """Reads an image as uint8, shape (28, 28); DataError for one that can't be read."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
                image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
            if image.has_transparency_data:
                black = Image.new("RGBA", image.size, "black")
                image = Image.alpha_composite(black, image.convert("RGBA"))
            image = image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
            return np.asarray(image)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {path}: {error}") from error
