"""Reads images of any format and type."""

import contextlib
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

with contextlib.suppress(ImportError):
    import pillow_heif  # HEIC, which phones take

    pillow_heif.register_heif_opener()
MIN_SIZE = 448  # pixels: a large JPEG is decoded at a reduced size of at least this
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor


class ImageError(ValueError):
    """An image can't be read; the message names it and says why."""


def load_image(source: ImageLike) -> Image.Image:
    """Reads a file that Pillow can read, or converts an image, to RGB; raises :class:`ImageError`.

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
            image.draft("RGB", (MIN_SIZE, MIN_SIZE))
            return _to_rgb(image)
    except FileNotFoundError:
        reason = "no such file"
    except Exception as error:  # a decoder may raise anything for a damaged file
        reason = f"can't be read: {error}"
    raise ImageError(f"{name}: {reason}")


def _image_from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in ((), (3,), (4,)):
        raise ImageError(
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
