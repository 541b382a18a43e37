"""Turns a photo of a garment into images like those of Fashion-MNIST."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGE_SIZE = 28  # pixels: width and height of an image of the dataset
# Longest side, in pixels, of the photo that is segmented: small is fast and loses no accuracy. The
# segmentation differs between sizes, so that the average of several errs less than any one.
WORKING_SIZES = (120, 200, 280)
# On a floor or a bed, sleeves and legs are spread by an unknown amount. The median photo of six
# kinds of garments was 1.0 to 1.5 times as wide as the dataset's images of the same height.
ASPECT_SCALES = (0.75, 0.85, 0.95)
NUM_VIEWS = len(WORKING_SIZES) * len(ASPECT_SCALES)
MIN_FOREGROUND_FRACTION = 0.03  # of the photo: anything smaller is not its subject


def to_views(image: Image.Image) -> Tensor:
    """Prepares an image for a network.

    Args:
        image: RGB. One of 28x28 pixels is an image of the dataset, any other a photo.

    Returns:
        Views of the object, uint8, shape (1, 28, 28) of an image of the dataset, and of a photo
        (NUM_VIEWS, 28, 28), see :func:`preprocess_photo`.
    """
    if image.size == (IMAGE_SIZE, IMAGE_SIZE):
        return torch.from_numpy(np.array(image.convert("L")))[None]
    return preprocess_photo(image)


def preprocess_photo(photo: Image.Image) -> Tensor:
    """Follows the steps of the dataset's authors, after segmenting the object.

    They cropped photos with a plain white background, reduced them to 28 pixels, centered, negated
    and converted them to grayscale (https://arxiv.org/abs/1708.07747, table 1). Here, the object is
    also made narrower.

    Args:
        photo: RGB, of any size.

    Returns:
        Views of the object, uint8, shape (NUM_VIEWS, 28, 28): bright on black, one for each working
        size and aspect scale. Average their predictions.

    Raises:
        ImportError: If OpenCV is not installed.
    """
    crops = [
        crop_foreground(resize_longest_side(photo, size, Image.Resampling.LANCZOS))
        for size in WORKING_SIZES
    ]
    return torch.stack([rescale_width(crop, scale) for crop in crops for scale in ASPECT_SCALES])


def crop_foreground(photo: Image.Image) -> Image.Image:
    """The object in a photo, cropped, negated and grayscale, on black."""
    mask = segment_foreground(np.asarray(photo))
    negated = Image.fromarray(np.where(mask, 255 - np.asarray(photo.convert("L")), 0).astype("u1"))
    return negated.crop(Image.fromarray(mask).getbbox())


def rescale_width(crop: Image.Image, scale: float) -> Tensor:
    """Multiplies the width by ``scale`` and fits the result into uint8, shape (28, 28)."""
    size = max(1, round(scale * crop.width)), crop.height
    crop = crop.resize(size, Image.Resampling.BILINEAR)
    crop = resize_longest_side(crop, IMAGE_SIZE, Image.Resampling.BOX)
    canvas = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))
    return torch.from_numpy(np.array(paste_centered(crop, canvas)))


def resize_longest_side(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """Scales an image so that its longest side has ``size`` pixels."""
    scale = size / max(image.size)
    width, height = (max(1, round(scale * side)) for side in image.size)
    return image.resize((width, height), resampling)


def paste_centered(image: Image.Image, canvas: Image.Image) -> Image.Image:
    """Pastes an image into the center of ``canvas`` and returns that."""
    canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
    return canvas


def segment_foreground(photo: Any) -> Any:
    """Separates the object in the center from the floor, bed or wall around it.

    OpenCV's GrabCut (https://doi.org/10.1145/1015706.1015720) starts with the margin as background
    and the rest as foreground. Of the parts that it finds, the large and central ones are kept.

    Args:
        photo: RGB, uint8, shape (H, W, 3).

    Returns:
        Mask of the object, bool, shape (H, W); all true if there is none of sufficient size.

    Raises:
        ImportError: If OpenCV is not installed.
    """
    cv2 = import_opencv()
    height, width = photo.shape[:2]
    everything = np.ones((height, width), bool)
    if min(height, width) < 8 or (photo == photo[0, 0]).all():
        return everything
    mask = np.zeros((height, width), np.uint8)
    x, y = (max(1, round(0.03 * size)) for size in (width, height))
    box = (x, y, width - 2 * x, height - 2 * y)
    cv2.setRNGSeed(0)  # GrabCut draws random numbers
    models = np.zeros((2, 1, 65))
    cv2.grabCut(photo[:, :, ::-1].copy(), mask, box, *models, 5, cv2.GC_INIT_WITH_RECT)
    mask = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    num, parts, stats, centers = cv2.connectedComponentsWithStats(mask)
    if num < 2:
        return everything
    distance = ((centers / (width, height) - 0.5) ** 2).sum(axis=1)
    weight = stats[:, cv2.CC_STAT_AREA] * np.exp(-4 * distance)
    weight[0] = 0  # the background
    mask = np.isin(parts, np.flatnonzero(weight > 0.3 * weight.max()))
    return mask if mask.mean() > MIN_FOREGROUND_FRACTION else everything


def import_opencv() -> Any:
    """OpenCV, or an ImportError that says how to install it."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "photos need OpenCV, which is not installed: pip install opencv-python-headless, "
            "which is this project's extra `photos`"
        ) from error
    return cv2
