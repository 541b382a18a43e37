"""Turns photos of clothes into pictures like those of Fashion-MNIST."""

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

from fmnist_lightning.dataset import CLASSES
from fmnist_lightning.pictures import BACKGROUND

PICTURE = 28  # pixels: the side of a picture of the data set
SIDE = 200  # pixels to which a photo is reduced: an object is found as well, and far sooner
THUMBNAIL = 112  # pixels: the side of what the contact sheet shows of a photo
# What folders are called that hold photos of a class, or of several, beside the class's own name.
FOLDERS = {
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
        picture: What the network sees, uint8, shape (28, 28); black where there was an error.
        thumbnail: What people see, uint8, shape (112, 112, 3).
        number: Its place among the files.
        error: Why it could not be read; empty where it could.
    """

    picture: Tensor
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
        _opencv()  # or else each of them would fail
        self.paths = find_photos(names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo:
        thumbnail = Image.new("RGB", (THUMBNAIL, THUMBNAIL), (BACKGROUND,) * 3)
        picture, error = torch.zeros(PICTURE, PICTURE, dtype=torch.uint8), ""
        try:
            photo = read_photo(self.paths[index])
        except PhotoError as caught:
            error = str(caught)
        else:
            picture = to_picture(photo)
            small = shrink(photo, THUMBNAIL, Image.Resampling.BOX)
            thumbnail.paste(
                small, ((THUMBNAIL - small.width) // 2, (THUMBNAIL - small.height) // 2)
            )
        return Photo(picture, torch.from_numpy(np.array(thumbnail)), index, error)


def photo_loader(dataset: PhotoDataset) -> DataLoader[Photo]:
    """Batches of 16, by processes of their own where there are many: 0.1 s a photo."""
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


def classes_of(path: Path) -> tuple[str, ...]:
    """The classes that are right for a photo, by the name of its folder; none where it has none."""
    known = {_plain(name): (name,) for name in CLASSES} | FOLDERS
    return known.get(_plain(path.absolute().parent.name), ())


def _plain(name: str) -> str:
    """The words of a name, so that ``Ankle_boot`` is found as ``ankle-boot`` is."""
    return " ".join(re.split(r"[\W_]+", name.lower()))


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Reads a photo, or the first one of an animation.

    Args:
        path: A file in any format and mode that Pillow reads.

    Returns:
        The photo, see :func:`as_rgb`; a large JPEG is reduced to 400 pixels or somewhat more.

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
                image.draft("RGB", (2 * SIDE, 2 * SIDE))  # a large JPEG is reduced as it is read
                return as_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError("it has too many pixels") from error
    except UnidentifiedImageError as error:
        raise PhotoError("it is not a picture") from error
    except Exception as error:  # a decoder may raise anything over a damaged file
        raise PhotoError(f"it can't be read: {error}") from error


def load_picture(source: Picture) -> Tensor:
    """Makes a picture like those of the data set of what may be one already.

    Args:
        source: A file, a Pillow image, or a uint8 array or tensor, shape (H, W), (H, W, 3) or
            (H, W, 4).

    Returns:
        The picture, uint8, shape (28, 28).

    Raises:
        PhotoError: If the file can't be read, or the array is of another shape or type.
    """
    if isinstance(source, str | os.PathLike):
        try:
            return to_picture(read_photo(source))
        except PhotoError as error:
            raise PhotoError(f"{os.fspath(source)}: {error}") from error
    if isinstance(source, Image.Image):
        try:
            return to_picture(as_rgb(source))
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
    return to_picture(as_rgb(Image.fromarray(array)))


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


def to_picture(photo: Image.Image) -> Tensor:
    """Makes a picture like those of the data set, in the steps of its authors.

    They began with photos on a plain white ground, which they cropped, reduced to 28 pixels, put in
    the middle, negated, and made grey (https://arxiv.org/abs/1708.07747, table 1). Here, the ground
    must be found first.

    Args:
        photo: RGB. One of 28x28 pixels is taken for a picture of the data set as it is.

    Returns:
        The picture, uint8, shape (28, 28): a bright object on black.
    """
    if photo.size == (PICTURE, PICTURE):
        return torch.from_numpy(np.array(photo.convert("L")))
    small = shrink(photo, SIDE, Image.Resampling.LANCZOS)
    mask = find_object(np.asarray(small))
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    negated = np.where(mask, 255 - np.asarray(small.convert("L")), 0).astype(np.uint8)
    thing = shrink(Image.fromarray(negated).crop(box), PICTURE, Image.Resampling.BOX)
    picture = Image.new("L", (PICTURE, PICTURE))
    picture.paste(thing, ((PICTURE - thing.width) // 2, (PICTURE - thing.height) // 2))
    return torch.from_numpy(np.array(picture))


def shrink(image: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    """Scales a picture until its longer side has so many pixels."""
    scale = side / max(image.size)
    width, height = (max(1, round(scale * size)) for size in image.size)
    return image.resize((width, height), resampling)


def find_object(photo: Any) -> Any:
    """Tells the thing in the middle from floor, bed or wall around it.

    OpenCV's GrabCut (https://doi.org/10.1145/1015706.1015720) begins with the margin as ground and
    all else as the thing; of the parts that it finds, the large ones near the middle are kept.

    Args:
        photo: RGB, uint8, shape (H, W, 3).

    Returns:
        True where the thing is, shape (H, W); everywhere if there is none.

    Raises:
        ImportError: If OpenCV is not installed.
    """
    cv2 = _opencv()
    height, width = photo.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    margin = [max(1, round(0.03 * size)) for size in (width, height)]
    box = (*margin, width - 2 * margin[0], height - 2 * margin[1])
    if min(height, width) < 8 or (photo == photo[0, 0]).all():
        return np.ones((height, width), bool)
    cv2.setRNGSeed(0)
    models = np.zeros((2, 1, 65))
    cv2.grabCut(photo[:, :, ::-1].copy(), mask, box, *models, 5, cv2.GC_INIT_WITH_RECT)
    mask = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    num, parts, stats, centres = cv2.connectedComponentsWithStats(mask)
    if num < 2:
        return np.ones((height, width), bool)
    away = ((centres / (width, height) - 0.5) ** 2).sum(axis=1)
    weight = stats[:, cv2.CC_STAT_AREA] * np.exp(-4 * away)
    weight[0] = 0  # the ground
    return np.isin(parts, np.flatnonzero(weight > 0.3 * weight.max()))


def _opencv() -> Any:
    """OpenCV, where it is installed.

    Raises:
        ImportError: If it is not.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "photos need OpenCV, which is not installed: pip install opencv-python-headless, "
            "which is this project's extra `photos`"
        ) from error
    return cv2
