"""Finds and reads photos of garments."""

import contextlib
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

from fmnist_lightning.internals.threads import max_num_threads
from fmnist_lightning.photos.preprocessing import (
    CROP_SIZE,
    IMAGE_SIZE,
    PreprocessedPhoto,
    fit_centered,
    import_opencv,
    preprocess_photo,
)

with contextlib.suppress(ImportError):
    import pillow_heif  # HEIC, which phones take

    pillow_heif.register_heif_opener()
MAX_ASPECT = 50  # longer side by shorter side
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
    """An image can't be read; the message names it and says why."""


class NotAnImageError(PhotoError):
    """The content of a file is that of no image."""


class Photo(NamedTuple):
    """An item of :class:`PhotoDataset`."""

    preprocessed: PreprocessedPhoto
    thumbnail: Tensor  # RGB, uint8, shape (112, 112, 3)
    file_index: int
    error: str  # why the file can't be read; empty if it can
    is_other: bool  # whether it is a file of another kind beside the photos of a folder


class PhotoDataset(Dataset[Photo]):
    """The photos of :func:`find_photos`; a file that can't be read is an item with an error."""

    def __init__(self, names: Iterable[str]) -> None:
        import_opencv()  # otherwise, each photo would fail
        names = list(names)
        self.named = {Path(name) for name in names}
        self.paths = find_photos(names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo:
        path, is_other = self.paths[index], False
        try:
            photo, error = load_image(path), ""
        except PhotoError as caught:
            photo, error = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE)), str(caught)
            kind = Image.registered_extensions().get(path.suffix.lower(), "")
            known = Image.MIME.get(kind, "").startswith("image/")
            is_other = isinstance(caught, NotAnImageError) and not known and path not in self.named
        thumbnail = np.array(fit_centered(photo, THUMBNAIL_SIZE, Image.Resampling.BOX))
        return Photo(preprocess_photo(photo), torch.from_numpy(thumbnail), index, error, is_other)


def photo_loader(dataset: PhotoDataset) -> DataLoader[Photo]:
    """Lists of 16 photos, from worker processes if there are many, as segmentation takes time."""
    num_workers = min(max_num_threads(), len(dataset) // 16, 8)
    return DataLoader(dataset, batch_size=16, num_workers=num_workers, collate_fn=list)


def find_photos(names: Iterable[str]) -> list[Path]:
    """Lists files, all visible files of folders and below, and the matches of glob patterns.

    Each file is listed once, in the order of the names. A name without a match is returned as is.
    """
    found: dict[Path, None] = {}
    for name in names:
        if not name:
            raise ValueError("the name of a photo is empty; give files, folders or patterns")
        path = Path(name)
        matches = [path] if path.exists() else [Path(each) for each in glob.glob(name)] or [path]
        found |= dict.fromkeys(sorted(_walk(path) if path.is_dir() else matches))
    if not found:
        raise ValueError(f"there is no file in {', '.join(names)}; give photos, or their folders")
    return list(found)


def _walk(root: Path) -> list[Path]:
    """The files in a folder and below; a folder that is linked to repeatedly is read once."""
    files: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()  # os.walk goes no deeper
            continue
        seen.add(real)
        folders[:] = [each for each in folders if not each.startswith(".")]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return files


def labels_from_folder(path: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that are correct for a photo, by the name of its folder; empty if unknown."""
    known = FOLDER_TO_CLASSES | {_words(name): (name,) for name in classes}
    labels = known.get(_words(path.absolute().parent.name), ())
    return tuple(label for label in labels if label in classes)


def _words(name: str) -> str:
    """``ankle boot`` for ``Ankle_boot`` and ``ankle-boot``."""
    return " ".join(re.split(r"[\W_]+", name.lower()))


def load_image(source: ImageLike) -> Image.Image:
    """Reads a file that Pillow can read, or converts an image, to RGB; raises :class:`PhotoError`.

    Arrays are uint8, shape (H, W), (H, W, 3) or (H, W, 4). Of an animation, the first frame is
    read. A large JPEG is decoded at a reduced size of at least twice that of a crop.
    """
    if not isinstance(source, str | os.PathLike | Image.Image):
        array = np.asarray(source.cpu() if isinstance(source, Tensor) else source)
        color = array.ndim == 3 and array.shape[2] in (3, 4)
        if array.dtype != np.uint8 or not array.size or not (array.ndim == 2 or color):
            raise PhotoError(
                "an image must be uint8, shape (H, W), (H, W, 3) or (H, W, 4), "
                f"not {array.dtype}, shape {array.shape}"
            )
        source = Image.fromarray(array)
    name = "image" if isinstance(source, Image.Image) else os.fspath(source)
    if not (isinstance(source, Image.Image) or os.path.isfile(source)):  # a pipe would block
        raise PhotoError(f"{name}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # minor damage
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                return _to_rgb(source)
            with Image.open(source) as image:
                image.draft("RGB", (2 * CROP_SIZE,) * 2)
                return _to_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        reason = "exceeds the pixel limit (possible decompression bomb)"
    except UnidentifiedImageError as error:
        raise NotAnImageError(f"{name}: not an image file") from error
    except Exception as error:  # a decoder may raise anything for a damaged file
        reason = f"can't be read: {error}"
    raise PhotoError(f"{name}: {reason}")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Converts any mode to RGB, upright by its EXIF orientation, on white where transparent."""
    if max(image.size) > MAX_ASPECT * min(image.size):  # scaled, it would fill the memory
        width, height = image.size
        raise ValueError(f"{width:,} x {height:,} pixels are not those of a photo")
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
