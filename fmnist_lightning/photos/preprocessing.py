"""Turns a photo of a garment into images like those of Fashion-MNIST."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fmnist_lightning.data.checks import is_fashion_mnist
from fmnist_lightning.data.dataset import CLASSES, IMAGE_SIZE
from fmnist_lightning.data.images import resize_to_grayscale

CROP_SIZE = 224  # pixels: width and height of the images that the ImageNet network sees
# Pixels of the longest side. Small photos are segmented faster and as well; the results differ
# between the sizes, so that averaging over two has fewer errors.
WORKING_SIZES = (120, 160)
# On a floor or a bed, sleeves and legs are spread by an unknown amount. The median photo of six
# kinds of garments was 1.0 to 1.5 times as wide as the dataset's images of the same height.
ASPECT_SCALES = (0.75, 0.85, 0.95)
MIN_FOREGROUND_FRACTION = 0.03  # of the photo: anything smaller is not its subject


class PreprocessedPhoto(NamedTuple):
    """What the networks see of a photo."""

    views: Tensor  # like images of the dataset, uint8, shape (V, 28, 28)
    crops: Tensor  # RGB, uint8, shape (K, 224, 224, 3); K is 1 for a photo of Fashion-MNIST, or 0


def preprocess_photo(photo: Image.Image, classes: Sequence[str] = CLASSES) -> PreprocessedPhoto:
    """Turns an RGB photo into what the networks see, as the training images of the first were.

    For a network of Fashion-MNIST, the steps are those of the authors of the dataset
    (https://arxiv.org/abs/1708.07747, table 1), but the object must be segmented first, and it is
    made narrower. An image of 28x28 pixels is taken as one of the dataset. For one of other
    ``classes``, it is that of ``ImageFolderDataModule``.
    """
    if photo.size == (IMAGE_SIZE, IMAGE_SIZE) or not is_fashion_mnist(classes):
        image = resize_to_grayscale(photo)
        return PreprocessedPhoto(image[None], image.new_empty(0, CROP_SIZE, CROP_SIZE, 3))
    views = []
    for size in WORKING_SIZES:
        resized = resize_longest_side(photo, size, Image.Resampling.LANCZOS)
        mask = segment_foreground(np.asarray(resized))
        box = Image.fromarray(mask).getbbox()
        negated = np.where(mask, 255 - np.asarray(resized.convert("L")), 0).astype(np.uint8)
        foreground = Image.fromarray(negated).crop(box)
        for scale in ASPECT_SCALES:
            width = max(1, round(scale * foreground.width))
            narrow = foreground.resize((width, foreground.height), Image.Resampling.BILINEAR)
            small = resize_longest_side(narrow, IMAGE_SIZE, Image.Resampling.BOX)
            view = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))
            view.paste(small, ((IMAGE_SIZE - small.width) // 2, (IMAGE_SIZE - small.height) // 2))
            views.append(torch.from_numpy(np.array(view)))
    assert box is not None  # a mask is never empty
    crop = crop_square(photo, [max(photo.size) / size * edge for edge in box])
    return PreprocessedPhoto(torch.stack(views), torch.from_numpy(np.array(crop))[None])


def crop_square(photo: Image.Image, box: Sequence[float]) -> Image.Image:
    """A square around a box with a margin, as far as the photo goes, scaled to ``CROP_SIZE``."""
    left, top, right, bottom = box
    half = (0.5 + 0.08) * max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    start = (max(0, x - half), max(0, y - half))
    end = (min(photo.width, x + half), min(photo.height, y + half))
    return photo.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BICUBIC, (*start, *end))


def resize_longest_side(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """Scales an image so that its longest side has ``size`` pixels."""
    scale = size / max(image.size)
    width, height = (max(1, round(scale * side)) for side in image.size)
    return image.resize((width, height), resampling)


def segment_foreground(photo: Any) -> Any:
    """Mask, bool, shape (H, W), of the object in the center of a photo, RGB, uint8, (H, W, 3).

    GrabCut (https://doi.org/10.1145/1015706.1015720) starts with the margin as background. Of the
    parts that it finds, the large and central ones are kept; if they are too small, all is object.
    """
    cv2 = import_opencv()
    height, width = photo.shape[:2]
    everything = np.ones((height, width), bool)
    if min(height, width) < 8 or (photo == photo[0, 0]).all():  # GrabCut would fail
        return everything
    mask = np.zeros((height, width), np.uint8)
    x, y = (max(1, round(0.03 * size)) for size in (width, height))
    box, models = (x, y, width - 2 * x, height - 2 * y), np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)  # GrabCut draws random numbers
    smooth = cv2.medianBlur(photo, 5)
    cv2.grabCut(smooth, mask, box, *models, 2, cv2.GC_INIT_WITH_RECT)  # more iterations: no gain
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
    """OpenCV, or an error that says how to install it."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "photos need OpenCV: pip install opencv-python-headless (the extra `photos`)"
        ) from error
    return cv2
