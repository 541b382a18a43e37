"""Turns a photo of clothes into a picture like those of Fashion-MNIST."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGE_SIZE = 28  # pixels: the side of a picture of the data set
# Pixels to which a photo is reduced: an object is found as well, and far sooner. What is found
# differs, so that several looks miss less than one.
WORKING_SIZES = (120, 200, 280)
# On floors and beds, sleeves and legs are spread, nobody knows how far. The median photo of six
# kinds of clothes was 1.0 to 1.5 times as wide as the data set has them, for the same height.
ASPECT_SCALES = (0.75, 0.85, 0.95)
NUM_VIEWS = len(WORKING_SIZES) * len(ASPECT_SCALES)
MIN_FOREGROUND_FRACTION = 0.03  # of a photo: what is smaller is not what it was taken of


def preprocess_photo(photo: Image.Image) -> Tensor:
    """Makes pictures like those of the data set, in the steps of its authors.

    They began with photos on a plain white ground, which they cropped, reduced to 28 pixels, put in
    the middle, negated, and made grey (https://arxiv.org/abs/1708.07747, table 1). Here, the ground
    must be found first, and the thing is made narrower.

    Args:
        photo: RGB. One of 28x28 pixels is taken for a picture of the data set as it is.

    Returns:
        ``NUM_VIEWS`` pictures of the same thing, whose answers are to be averaged, uint8, shape
        (9, 28, 28): a bright object on black. The one in the middle is the most usual.
    """
    if photo.size == (IMAGE_SIZE, IMAGE_SIZE):
        picture = torch.from_numpy(np.array(photo.convert("L")))
        return picture.expand(NUM_VIEWS, -1, -1)
    sizes = [resize_longest_side(photo, side, Image.Resampling.LANCZOS) for side in WORKING_SIZES]
    return torch.stack(
        [
            _rescale_width(thing, width)
            for thing in map(_crop_foreground, sizes)
            for width in ASPECT_SCALES
        ]
    )


def _crop_foreground(photo: Image.Image) -> Image.Image:
    """What is found in a photo of this size, cropped, negated and grey, on black."""
    mask = segment_foreground(np.asarray(photo))
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    negated = np.where(mask, 255 - np.asarray(photo.convert("L")), 0).astype(np.uint8)
    return Image.fromarray(negated).crop(box)


def _rescale_width(thing: Image.Image, width: float) -> Tensor:
    """Makes a thing so many times as wide, and a picture of it, uint8, shape (28, 28)."""
    size = max(1, round(width * thing.width)), thing.height
    thing = thing.resize(size, Image.Resampling.BILINEAR)
    thing = resize_longest_side(thing, IMAGE_SIZE, Image.Resampling.BOX)
    return torch.from_numpy(
        np.array(paste_centered(thing, Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))))
    )


def resize_longest_side(image: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    """Scales a picture until its longer side has so many pixels."""
    scale = side / max(image.size)
    width, height = (max(1, round(scale * size)) for size in image.size)
    return image.resize((width, height), resampling)


def paste_centered(image: Image.Image, square: Image.Image) -> Image.Image:
    """Puts a picture in the middle of a larger one, and gives that."""
    square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    return square


def segment_foreground(photo: Any) -> Any:
    """Tells the thing in the middle from floor, bed or wall around it.

    OpenCV's GrabCut (https://doi.org/10.1145/1015706.1015720) begins with the margin as ground and
    all else as the thing; of the parts that it finds, the large ones near the middle are kept.

    Args:
        photo: RGB, uint8, shape (H, W, 3).

    Returns:
        True where the thing is, shape (H, W); everywhere if there is none, or only a speck.

    Raises:
        ImportError: If OpenCV is not installed.
    """
    cv2 = opencv()
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
    found = np.isin(parts, np.flatnonzero(weight > 0.3 * weight.max()))
    return found if found.mean() > MIN_FOREGROUND_FRACTION else np.ones((height, width), bool)


def opencv() -> Any:
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
