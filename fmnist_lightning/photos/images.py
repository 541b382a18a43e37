"""Finds and reads photos of clothes."""

import glob
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos.preprocessing import (
    IMAGE_SIZE,
    NUM_VIEWS,
    WORKING_SIZES,
    opencv,
    paste_centered,
    preprocess_photo,
    resize_longest_side,
)
from fmnist_lightning.tensorboard.grids import BACKGROUND

THUMBNAIL = 112  # pixels: the side of what the contact sheet shows of a photo
# What folders are called that hold photos of a class, or of several, beside the class's own name.
FOLDER_TO_CLASSES = {
    "t shirt": ("T-shirt/top",),
    "pants": ("Trouser",),
    "longsleeve": ("Pullover",),
    "outwear": ("Coat",),
    "shoes": ("Sandal", "Sneaker", "Ankle boot"),
}
Picture = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor


class PhotoError(ValueError):
    """What can't be read as a picture; the message says why."""


class Photo(NamedTuple):
    """A photo on its way to an answer.

    Attributes:
        pictures: What the network sees, uint8, shape (9, 28, 28); black where there was an error.
        thumbnail: What people see, uint8, shape (112, 112, 3).
        number: Its place among the files.
        error: Why it could not be read; empty where it could.
    """

    pictures: Tensor
    thumbnail: Tensor
    number: int
    error: str


class PhotoDataset(Dataset[Photo]):
    """Photos by their files; one that can't be read is an item with an error.

    Args:
        names: See :func:`find_photos`.

    Raises:
        ImportError: If OpenCV is not installed.
        ValueError: If there is no file.
    """

    def __init__(self, names: Iterable[str]) -> None:
        opencv()  # or else each of them would fail
        self.paths = find_photos(names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo:
        thumbnail = Image.new("RGB", (THUMBNAIL, THUMBNAIL), (BACKGROUND,) * 3)
        pictures, error = torch.zeros(NUM_VIEWS, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8), ""
        try:
            photo = read_photo(self.paths[index])
        except PhotoError as caught:
            error = str(caught)
        else:
            pictures = preprocess_photo(photo)
            small = resize_longest_side(photo, THUMBNAIL, Image.Resampling.BOX)
            thumbnail = paste_centered(small, thumbnail)
        return Photo(pictures, torch.from_numpy(np.array(thumbnail)), index, error)


def photo_loader(dataset: PhotoDataset) -> DataLoader[Photo]:
    """Batches of 16, by processes of their own where there are many: 0.3 s a photo."""
    num_workers = min(os.cpu_count() or 1, len(dataset) // 16, 8)
    return DataLoader(dataset, batch_size=16, num_workers=num_workers)


def find_photos(names: Iterable[str]) -> list[Path]:
    """Lists the files that names stand for.

    Args:
        names: Files, folders with all that is in and below them, and patterns such as ``*.jpg``.

    Returns:
        The files, each once, sorted within each name; files in a folder whose names begin with a
        dot are left out. A name that stands for nothing is given back as it is.

    Raises:
        ValueError: If there are only empty folders.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if not name:
            raise ValueError("the name of a photo is empty; give files, folders or patterns")
        if path.is_dir():
            paths = _below(path)
        else:
            paths = [path] if path.exists() else [Path(each) for each in glob.glob(name)] or [path]
        found |= dict.fromkeys(sorted(paths))
    if not found:
        raise ValueError(f"there is no file in {', '.join(names)}; give photos, or their folders")
    return list(found)


def _below(root: Path) -> list[Path]:
    """The files in a folder and below it; a folder that links lead to twice is read once."""
    files: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [each for each in folders if not each.startswith(".") and real not in seen]
        if real not in seen:
            files += [Path(folder, name) for name in names if not name.startswith(".")]
        seen.add(real)
    return files


def labels_from_folder(path: Path) -> tuple[str, ...]:
    """The classes that are right for a photo, by the name of its folder; none where it has none."""
    known = {_plain(name): (name,) for name in CLASSES} | FOLDER_TO_CLASSES
    return known.get(_plain(path.absolute().parent.name), ())


def _plain(name: str) -> str:
    """The words of a name, so that ``Ankle_boot`` is found as ``ankle-boot`` is."""
    return " ".join(re.split(r"[\W_]+", name.lower()))


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Reads a photo, or the first one of an animation.

    Args:
        path: A file in any format and mode that Pillow reads.

    Returns:
        The photo, see :func:`as_rgb`; a large JPEG is reduced to 560 pixels or somewhat more.

    Raises:
        PhotoError: If it can't be read, or is so large that Pillow warns of it.
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        raise PhotoError("there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of small damage, which does no harm here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.draft(
                    "RGB", (2 * max(WORKING_SIZES),) * 2
                )  # a large JPEG is reduced as it is read
                return as_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError("it has too many pixels") from error
    except UnidentifiedImageError as error:
        raise PhotoError("it is not a picture") from error
    except Exception as error:  # a decoder may raise anything over a damaged file
        raise PhotoError(f"it can't be read: {error}") from error


def load_views(source: Picture) -> Tensor:
    """Makes pictures like those of the data set of what may be one already.

    Args:
        source: A file, a Pillow image, or a uint8 array or tensor, shape (H, W), (H, W, 3) or
            (H, W, 4).

    Returns:
        Pictures of one thing, uint8, shape (9, 28, 28), see
        :func:`~fmnist_lightning.photos.preprocessing.preprocess_photo`.

    Raises:
        PhotoError: If the file can't be read, or the array is of another shape or type.
    """
    if isinstance(source, str | os.PathLike):
        try:
            return preprocess_photo(read_photo(source))
        except PhotoError as error:
            raise PhotoError(f"{os.fspath(source)}: {error}") from error
    if isinstance(source, Image.Image):
        try:
            return preprocess_photo(as_rgb(source))
        except OSError as error:  # it was opened, and is read only now
            raise PhotoError(f"a picture can't be read: {error}") from error
    array = np.asarray(source.cpu() if isinstance(source, Tensor) else source)
    if (
        not array.size
        or array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or array.shape[2:] not in ((), (3,), (4,))
    ):
        raise PhotoError(
            f"a picture must be uint8, shape (H, W), (H, W, 3) or (H, W, 4), "
            f"not {array.dtype}, shape {array.shape}"
        )
    return preprocess_photo(as_rgb(Image.fromarray(array)))


def as_rgb(image: Image.Image) -> Image.Image:
    """Brings a picture of any mode into RGB, upright, with what was transparent in white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # more than 8 bits, of which Pillow would cut some off
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
