"""Finds and reads photos of garments."""

import glob
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fmnist_lightning.photos.preprocessing import (
    IMAGE_SIZE,
    NUM_VIEWS,
    WORKING_SIZES,
    import_opencv,
    paste_centered,
    resize_longest_side,
    to_views,
)

THUMBNAIL_SIZE = 112  # pixels: width and height of a photo on a contact sheet
# Folder names that stand for one or several classes, in addition to the names of the classes.
FOLDER_TO_CLASSES = {
    "t shirt": ("T-shirt/top",),
    "pants": ("Trouser",),
    "longsleeve": ("Pullover",),
    "outwear": ("Coat",),
    "shoes": ("Sandal", "Sneaker", "Ankle boot"),
}
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor


class PhotoError(ValueError):
    """An image can't be read; the message says why."""


class Photo(NamedTuple):
    """An item of :class:`PhotoDataset`.

    Attributes:
        views: uint8, shape (NUM_VIEWS, 28, 28), all the same for an image of 28x28 pixels.
        thumbnail: RGB, uint8, shape (112, 112, 3).
        index: Position of its file in the dataset.
        error: Why the file can't be read, with views of zeros; empty if it can.
    """

    views: Tensor
    thumbnail: Tensor
    index: int
    error: str


class PhotoDataset(Dataset[Photo]):
    """Photo files; one that can't be read is an item with an error.

    Args:
        names: See :func:`find_photos`.

    Raises:
        ImportError: If OpenCV is not installed.
        ValueError: If there are no files.
    """

    def __init__(self, names: Iterable[str]) -> None:
        import_opencv()  # otherwise, each photo would fail
        self.paths = find_photos(names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo:
        views, error = torch.zeros(NUM_VIEWS, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8), ""
        thumbnail = Image.new("RGB", (THUMBNAIL_SIZE, THUMBNAIL_SIZE))
        try:
            photo = read_photo(self.paths[index])
        except PhotoError as caught:
            error = str(caught)
        else:
            views = to_views(photo).expand_as(views)
            small = resize_longest_side(photo, THUMBNAIL_SIZE, Image.Resampling.BOX)
            paste_centered(small, thumbnail)
        return Photo(views, torch.from_numpy(np.array(thumbnail)), index, error)


def photo_loader(dataset: PhotoDataset) -> DataLoader[Photo]:
    """Batches of 16, from worker processes if there are many: a photo takes about 0.3 s."""
    num_workers = min(os.cpu_count() or 1, len(dataset) // 16, 8)
    return DataLoader(dataset, batch_size=16, num_workers=num_workers)


def find_photos(names: Iterable[str]) -> list[Path]:
    """Lists photo files.

    Args:
        names: Files, folders, which are searched recursively, and patterns such as ``*.jpg``.

    Returns:
        The files, each once, sorted within each name, without hidden files of folders. A name that
        matches nothing is returned as it is.

    Raises:
        ValueError: If a name is empty, or there are only empty folders.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if not name:
            raise ValueError("the name of a photo is empty; give files, folders or patterns")
        if path.is_dir():
            paths = _walk(path)
        else:
            paths = [path] if path.exists() else [Path(each) for each in glob.glob(name)] or [path]
        found |= dict.fromkeys(sorted(paths))
    if not found:
        raise ValueError(f"there is no file in {', '.join(names)}; give photos, or their folders")
    return list(found)


def _walk(root: Path) -> list[Path]:
    """The files in a folder and below; a folder that is linked to repeatedly is read once."""
    files: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [each for each in folders if not each.startswith(".") and real not in seen]
        if real not in seen:
            files += [Path(folder, name) for name in names if not name.startswith(".")]
        seen.add(real)
    return files


def labels_from_folder(path: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that are correct for a photo, by the name of its folder; empty if unknown."""
    known = FOLDER_TO_CLASSES | {_words(name): (name,) for name in classes}
    labels = known.get(_words(path.absolute().parent.name), ())
    return tuple(label for label in labels if label in classes)


def _words(name: str) -> str:
    """``ankle boot`` for ``Ankle_boot`` and ``ankle-boot``."""
    return " ".join(re.split(r"[\W_]+", name.lower()))


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Reads an image file, of an animation the first frame.

    Args:
        path: A file in any format and mode that Pillow reads.

    Returns:
        RGB, see :func:`to_rgb`; a large JPEG is decoded at a reduced size, 560 pixels or more.

    Raises:
        PhotoError: If it can't be read, or Pillow warns of its size.
    """
    if not os.path.isfile(path):  # reading a pipe would wait for ever
        raise PhotoError("no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # minor damage
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.draft("RGB", (2 * max(WORKING_SIZES),) * 2)  # decode JPEG at reduced size
                return to_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError("exceeds the pixel limit (possible decompression bomb)") from error
    except UnidentifiedImageError as error:
        raise PhotoError("not an image file") from error
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise PhotoError(f"can't be read: {error}") from error


def load_image(source: ImageLike) -> Image.Image:
    """Reads or converts an image.

    Args:
        source: A file, a Pillow image, or a uint8 array or tensor, shape (H, W), (H, W, 3) or
            (H, W, 4).

    Returns:
        RGB, see :func:`to_rgb`.

    Raises:
        PhotoError: If the file can't be read, or the array is of another shape or type.
    """
    if isinstance(source, str | os.PathLike):
        try:
            return read_photo(source)
        except PhotoError as error:
            raise PhotoError(f"{os.fspath(source)}: {error}") from error
    if isinstance(source, Image.Image):
        try:
            return to_rgb(source)
        except OSError as error:  # Pillow opened it earlier, and decodes it only now
            raise PhotoError(f"an image can't be read: {error}") from error
    array = np.asarray(source.cpu() if isinstance(source, Tensor) else source)
    color = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not array.size or not (array.ndim == 2 or color):
        raise PhotoError(
            "an image must be uint8, shape (H, W), (H, W, 3) or (H, W, 4), "
            f"not {array.dtype}, shape {array.shape}"
        )
    return to_rgb(Image.fromarray(array))


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any mode to RGB, upright by its EXIF orientation, on white where transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which Pillow would clip
        values = np.nan_to_num(np.asarray(image, dtype=np.float32)).clip(min=0)
        values = values * (255 / max(values.max(), 1e-6))
        image = Image.fromarray(values.round().astype(np.uint8))
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
