"""Finds and reads images of any format and type."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fmnist_lightning.data.dataset import IMAGE_SIZE

with contextlib.suppress(ImportError):
    import pillow_heif  # HEIC, which phones take

    pillow_heif.register_heif_opener()
MIN_SIZE = 448  # pixels: a large JPEG is decoded at a reduced size of at least this
# Beginnings of the names of hidden and system files and folders.
HIDDEN = (".", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini")
HEIC = (".heic", ".heif")
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor


class ImageError(ValueError):
    """An image can't be read; the message names it and says why."""


def find_images(root: str | Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder and the folders below, by name or by content, and other files.

    Hidden and system files are neither.
    """
    files: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(HIDDEN))
        names += [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
        files += [Path(folder, name) for name in sorted(names) if not name.startswith(HIDDEN)]
    images = [file for file in files if _is_image(file)]
    return images, sorted(set(files) - set(images))


def _is_image(path: Path) -> bool:
    if not path.is_file():  # such as a pipe, on which reading hangs
        return False
    suffix = path.suffix.lower()
    if suffix in HEIC or Image.registered_extensions().get(suffix) in Image.OPEN:
        return True
    try:
        with Image.open(path):  # reads the first bytes
            return True
    except Exception:  # a decoder may raise anything
        return False


def load_image(source: ImageLike) -> Image.Image:
    """Reads a file that Pillow can read, or converts an image, to RGB; raises :class:`ImageError`.

    It is upright by its EXIF orientation, on white where it is transparent, and of 8 bits. Arrays
    are uint8, shape (H, W), (H, W, 3) or (H, W, 4).
    """
    if isinstance(source, Tensor):
        source = source.cpu().numpy()
    if isinstance(source, np.ndarray):
        is_image = source.dtype == np.uint8 and source.ndim in (2, 3)
        if not is_image or source.shape[2:] not in ((), (3,), (4,)):
            raise ImageError(
                "an image must be uint8, shape (H, W), (H, W, 3) or (H, W, 4), "
                f"not {source.dtype}, shape {source.shape}"
            )
        source = Image.fromarray(source)
    name = "image" if isinstance(source, Image.Image) else os.fspath(source)
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        with Image.open(source) as image:
            image.draft("RGB", (MIN_SIZE, MIN_SIZE))
            return _to_rgb(image)
    except FileNotFoundError:
        reason = "no such file"
    except Exception as error:  # a decoder may raise anything for a damaged file
        reason = f"can't be read: {error}"
        if Path(name).suffix.lower() in HEIC and HEIC[0] not in Image.registered_extensions():
            reason += "; for photos of phones, pip install pillow-heif"
    raise ImageError(f"{name}: {reason}")


def resize_to_grayscale(image: Image.Image) -> Tensor:
    """An image as networks see it, uint8, shape (28, 28): grayscale (ITU-R 601), stretched."""
    small = image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small))


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    with contextlib.suppress(Exception):  # broken EXIF is no EXIF
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floats; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip all values above 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
