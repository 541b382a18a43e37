"""Other datasets of this kind: folders of images, and IDX files such as those of MNIST."""

import functools
import unicodedata
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file
from tqdm.auto import tqdm
from typing_extensions import override

from fmnist_lightning.data.dataset import TensorImageDataset
from fmnist_lightning.data.download import DataError
from fmnist_lightning.data.hash_split import HashSplitDataModule, hash_bytes
from fmnist_lightning.data.images import (
    HIDDEN,
    ImageError,
    find_images,
    load_image,
    resize_to_grayscale,
)
from fmnist_lightning.internals.console import print_line

SPLITS = {  # and the names that their folders, or the names of IDX files, may have
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k"),
}


class ImageFolderDataModule(HashSplitDataModule):
    """Images of any classes from a folder.

    The folder has images in ``train/CLASS/`` and ``test/CLASS/``, and in ``val/CLASS/`` where they
    are split already; or it has the IDX files of one dataset, named as those of MNIST, maybe with a
    prefix: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and the same with ``t10k`` or
    ``test``. The classes are the names of the folders, or the labels in the IDX files.

    Each file that Pillow can open is an image, in folders of any depth. It is converted to
    grayscale (ITU-R 601, white where it is transparent), and stretched to 28x28 pixels (bicubic,
    antialiased). IDX files must have this size; those of EMNIST are transposed, and turned upright.

    Args:
        data_dir: The folder.
        **kwargs: Of :class:`HashSplitDataModule`, such as ``batch_size`` and ``val_size``.

    Raises:
        DataError: If the folder has no images of two classes, or is laid out in another way.
    """

    def __init__(self, data_dir: str, **kwargs: Any) -> None:
        data_dir = str(data_dir)  # a Path can't be read back from a checkpoint
        super().__init__(**kwargs)
        self.root = Path(data_dir).expanduser()
        self.test_files: list[str] = []  # below the folder of the test images, in their order

    @functools.cached_property
    def classes(self) -> list[str]:  # type: ignore[override]
        """The names of the class folders, or the labels in the IDX files."""
        if folders := [folder for split in SPLITS if (folder := find_folder(self.root, split))]:
            classes = sorted({class_name(path) for each in folders for path in list_folders(each)})
        else:
            parts = [self._read_idx(split, "labels?idx1", read_label_file) for split in SPLITS]
            labels = {label for part in parts if part is not None for label in part.tolist()}
            classes = [str(label) for label in sorted(labels)]
        if len(classes) < 2:
            found = f"only one class, {classes[0]}" if classes else "no folder train"
            raise layout_error(self.root, found)
        return classes

    @override
    def read(self, split: str) -> TensorImageDataset | None:
        if folder := find_folder(self.root, split):
            dataset, files = read_image_folder(folder, self.classes)
            if split == "test":
                self.test_files = files
            return dataset
        images = self._read_idx(split, "images?idx3", read_image_file)
        labels = self._read_idx(split, "labels?idx1", read_label_file)
        if images is None or labels is None:
            if split == "val":
                return None
            raise layout_error(self.root, f"no {split} images")
        positions = [self.classes.index(str(label)) for label in labels.tolist()]
        return TensorImageDataset(images, torch.tensor(positions))

    def _read_idx(self, split: str, kind: str, reader: Callable[[str], Tensor]) -> Tensor | None:
        """The content of an IDX file; None if there is none."""
        names = SPLITS[split]
        paths = [path for name in names for path in self.root.glob(f"*{name}-{kind}-ubyte")]
        paths = [path for path in paths if path.is_file() and not path.name.startswith(HIDDEN)]
        if len(paths) > 1:
            raise DataError(f"{self.root} has {len(paths)} {split} files of {kind}; expected one")
        if not paths:
            return None
        try:
            content = reader(str(paths[0]))
        except Exception as error:  # a damaged file can raise anything
            raise DataError(f"cannot read {paths[0]}: {error}") from error
        if "emnist" in paths[0].name and content.dim() == 3:
            print_line(f"{paths[0].name} holds transposed images, as all of EMNIST: turning them")
            content = content.transpose(1, 2).contiguous()
        return content


def list_folders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden and system folders; none if it does not exist."""
    paths = sorted(folder.glob("*"))
    return [path for path in paths if path.is_dir() and not path.name.startswith(HIDDEN)]


def find_folder(root: Path, split: str) -> Path | None:
    """The folder of a split, whatever the case of its name."""
    folders = [path for path in list_folders(root) if path.name.lower() in SPLITS[split]]
    if len(folders) > 1:
        names = " and ".join(path.name for path in folders)
        raise DataError(f"{root.absolute()} has {names}, which mean the same; rename one")
    return folders[0] if folders else None


def class_name(folder: Path) -> str:
    """The name of a folder; Linux and macOS write an accented letter in two ways."""
    return unicodedata.normalize("NFC", folder.name)


def layout_error(root: Path, found: str) -> DataError:
    """Says what a folder has, and what was expected."""
    if not root.is_dir():
        return DataError(f"there is no folder {root.absolute()}; if it moved, give --data.data_dir")
    names = [f"{path.name}/" if path.is_dir() else path.name for path in sorted(root.iterdir())]
    shown = ", ".join(names[:8]) + ", ..." * (len(names) > 8)
    return DataError(
        f"{root.absolute()} has {found}, but {shown or 'nothing'}; expected images of two or more "
        "classes, as train/CLASS/IMAGE and test/CLASS/IMAGE, or IDX files"
    )


def read_image_folder(folder: Path, classes: Sequence[str]) -> tuple[TensorImageDataset, list[str]]:
    """Reads the images in ``folder/CLASS/``, and returns their paths below the folder too.

    Their labels are the positions in ``classes``. Raises DataError for images that can't be read,
    and names all of them. Other files are left out, and a line names some.
    """
    paths: list[Path] = []
    labels: list[int] = []
    others = [path for path in folder.iterdir() if path.is_file()]
    for class_folder in list_folders(folder):
        images, other_files = find_images(class_folder)
        paths += images
        labels += [classes.index(class_name(class_folder))] * len(images)
        others += other_files
    others = [path for path in others if not path.name.startswith(HIDDEN)]
    if names := [str(path.relative_to(folder)) for path in others]:
        shown = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        print_line(f"Left out {len(names):,} files of {folder}, no images of a class: {shown}")
    if not paths:
        raise DataError(
            f"{folder.absolute()} has no image in a folder of a class; for images without labels, "
            "there is predict --photos"
        )
    with ThreadPool(torch.get_num_threads()) as pool:  # which an error or a signal ends at once
        progress = tqdm(pool.imap(_read_file, paths), f"reading {folder}", len(paths), delay=1)
        contents = list(progress)
    if errors := [content for content in contents if isinstance(content, str)]:
        raise DataError(f"cannot read {len(errors):,} images:\n  " + "\n  ".join(errors))
    pixels, hashes = zip(*contents, strict=True)
    files = [str(path.relative_to(folder)) for path in paths]
    tensors = torch.stack(pixels), torch.tensor(labels), torch.tensor(hashes)
    return TensorImageDataset(*tensors), files


def _read_file(path: Path) -> tuple[Tensor, int] | str:
    """An image, uint8, shape (28, 28), and the hash of its file; or an error."""
    try:
        return resize_to_grayscale(load_image(path)), hash_bytes(path.read_bytes())
    except ImageError as error:
        return str(error)
