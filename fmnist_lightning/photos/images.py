"""Finds and reads photos of garments."""

import contextlib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fmnist_lightning.photos.preprocessing import (
    CROP_SIZE,
    IMAGE_SIZE,
    PreprocessedPhoto,
    import_opencv,
    preprocess_photo,
)

with contextlib.suppress(ImportError):
    import pillow_heif  # HEIC, which phones take

    pillow_heif.register_heif_opener()
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor


class PhotoError(ValueError):
    """An image can't be read; the message names it and says why."""


class Photo(NamedTuple):
    """An item of :class:`PhotoDataset`."""

    preprocessed: PreprocessedPhoto
    path: Path
    error: str  # why the file can't be read; empty if it can


class PhotoDataset(Dataset[Photo]):
    """The photos of :func:`find_photos`; a file that can't be read is an item with an error."""

    def __init__(self, names: Sequence[str]) -> None:
        import_opencv()  # an error comes before the first photo
        self.paths, self.other_files = find_photos(names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo:
        try:
            photo, error = load_image(self.paths[index]), ""
        except PhotoError as reason:
            photo, error = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE)), str(reason)
        return Photo(preprocess_photo(photo), self.paths[index], error)


def photo_loader(dataset: PhotoDataset) -> DataLoader[Photo]:
    """Lists of 16 photos, from worker processes if there are many, as segmentation takes time."""
    num_workers = min(torch.get_num_threads(), len(dataset) // 16, 8)
    return DataLoader(dataset, batch_size=16, num_workers=num_workers, collate_fn=list)


def find_photos(names: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The photos in files, folders (with all folders below) and glob patterns, and other files.

    A name without a match is one of the photos. Hidden files of folders are left out.
    """
    formats = Image.registered_extensions()
    photos: dict[Path, None] = {}
    other_files: dict[Path, None] = {}
    for name in names:
        for match in [name] if os.path.exists(name) else sorted(glob.glob(name)) or [name]:
            if not os.path.isdir(match):
                photos[Path(match)] = None
                continue
            for file in sorted(_visible_files(match)):
                is_image = formats.get(file.suffix.lower()) in Image.OPEN
                (photos if is_image else other_files)[file] = None
    if not photos:
        raise ValueError(f"there is no photo in {', '.join(names)}; give photos, or their folders")
    return list(photos), list(other_files)


def _visible_files(root: str) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def label_from_folder(path: Path, classes: Sequence[str]) -> str | None:
    """The class that the folder of a photo is named after, such as ``ankle-boot``, if any."""
    separators = re.compile(r"[\W_]+")
    labels = {separators.sub(" ", name.lower()): name for name in classes}
    return labels.get(separators.sub(" ", path.absolute().parent.name.lower()))


def load_image(source: ImageLike) -> Image.Image:
    """Reads a file that Pillow can read, or converts an image, to RGB; raises :class:`PhotoError`.

    Arrays are uint8, shape (H, W), (H, W, 3) or (H, W, 4). A large JPEG is decoded at a reduced
    size of at least twice that of a crop.
    """
    if isinstance(source, Tensor):
        source = source.cpu().numpy()
    if isinstance(source, np.ndarray):
        source = _image_from_array(source)
    name = "image" if isinstance(source, Image.Image) else os.fspath(source)
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        with Image.open(source) as image:
            image.draft("RGB", (2 * CROP_SIZE, 2 * CROP_SIZE))
            return _to_rgb(image)
    except FileNotFoundError:
        reason = "no such file"
    except Exception as error:  # a decoder may raise anything for a damaged file
        reason = f"can't be read: {error}"
    raise PhotoError(f"{name}: {reason}")


def _image_from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in ((), (3,), (4,)):
        raise PhotoError(
            "an image must be uint8, shape (H, W), (H, W, 3) or (H, W, 4), "
            f"not {array.dtype}, shape {array.shape}"
        )
    return Image.fromarray(array)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Converts to RGB, upright by the EXIF orientation, on white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 or 32 bits: Pillow would clip all values above 255
        values = np.asarray(image, dtype=np.float32).clip(min=0)
        values *= 255 / max(values.max(), 1)
        image = Image.fromarray(values.round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
