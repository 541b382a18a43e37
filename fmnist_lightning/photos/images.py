"""Finds and reads photos of garments."""

import contextlib
import glob
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

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


class Photo(NamedTuple):
    """An item of :class:`PhotoDataset`."""

    preprocessed: PreprocessedPhoto
    thumbnail: Tensor  # RGB, uint8, shape (112, 112, 3)
    file_index: int
    error: str  # why the file can't be read; empty if it can


class PhotoDataset(Dataset[Photo]):
    """The photos of :func:`find_photos`; a file that can't be read is an item with an error."""

    def __init__(self, names: Sequence[str]) -> None:
        import_opencv()  # otherwise, each photo would fail
        self.paths, self.other_files = find_photos(names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo:
        try:
            photo, error = load_image(self.paths[index]), ""
        except PhotoError as reason:
            photo, error = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE)), str(reason)
        thumbnail = np.array(fit_centered(photo, THUMBNAIL_SIZE, Image.Resampling.BOX))
        return Photo(preprocess_photo(photo), torch.from_numpy(thumbnail), index, error)


def photo_loader(dataset: PhotoDataset) -> DataLoader[Photo]:
    """Lists of 16 photos, from worker processes if there are many, as segmentation takes time."""
    num_workers = min(torch.get_num_threads(), len(dataset) // 16, 8)
    return DataLoader(dataset, batch_size=16, num_workers=num_workers, collate_fn=list)


def find_photos(names: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Finds photos by the names of files and folders, and by glob patterns.

    Folders are searched with all folders below. Hidden files and links to folders are left out.

    Returns:
        The photos, each once, in the order of the names; a name without a match is one of them.
        And the files of the folders whose suffix is not that of an image.

    Raises:
        ValueError: If a name is empty, or there is no photo.
    """
    image_suffixes = {
        suffix
        for suffix, file_format in Image.registered_extensions().items()
        if Image.MIME.get(file_format, "").startswith("image/")  # Pillow also knows PDF and MPEG
    }
    photos: dict[Path, None] = {}
    other_files: dict[Path, None] = {}
    for name in names:
        if not name:
            raise ValueError("the name of a photo is empty; give files, folders or patterns")
        matches = [name] if Path(name).exists() else sorted(glob.glob(name)) or [name]
        for path in map(Path, matches):
            if not path.is_dir():
                photos[path] = None
                continue
            for file in sorted(_visible_files(path)):
                is_image = file.suffix.lower() in image_suffixes
                (photos if is_image else other_files)[file] = None
    if not photos:
        raise ValueError(f"there is no photo in {', '.join(names)}; give photos, or their folders")
    return list(photos), list(other_files)


def _visible_files(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def labels_from_folder(path: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that are correct for a photo, by the name of its folder; empty if unknown."""
    labels_by_name = FOLDER_TO_CLASSES | {_words(name): (name,) for name in classes}
    labels = labels_by_name.get(_words(path.absolute().parent.name), ())
    return tuple(label for label in labels if label in classes)


def _words(name: str) -> str:
    """``ankle boot`` for ``Ankle_boot`` and ``ankle-boot``."""
    return " ".join(re.split(r"[\W_]+", name.lower()))


def load_image(source: ImageLike) -> Image.Image:
    """Reads a file that Pillow can read, or converts an image, to RGB; raises :class:`PhotoError`.

    Arrays are uint8, shape (H, W), (H, W, 3) or (H, W, 4). Of an animation, the first frame is
    read. A large JPEG is decoded at a reduced size of at least twice that of a crop.
    """
    if isinstance(source, Tensor):
        source = source.cpu().numpy()
    if not isinstance(source, str | os.PathLike | Image.Image):
        source = _image_from_array(np.asarray(source))
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
    except UnidentifiedImageError:
        reason = "not an image file"
    except Exception as error:  # a decoder may raise anything for a damaged file
        reason = f"can't be read: {error}"
    raise PhotoError(f"{name}: {reason}")


def _image_from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    is_color = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not array.size or not (array.ndim == 2 or is_color):
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
