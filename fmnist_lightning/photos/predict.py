"""Predicts the classes of image files, Pillow images and arrays."""

import itertools
import os
from collections.abc import Iterable
from typing import NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor

from fmnist_lightning.photos.images import ImageLike, load_image
from fmnist_lightning.photos.preprocessing import to_views
from fmnist_lightning.training.module import FashionClassifier


class Prediction(NamedTuple):
    """The prediction for an image.

    Attributes:
        label: Name of the most probable class.
        confidence: Its probability, 0 to 1.
        probabilities: The probability of each class, by name.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]


@torch.inference_mode()
def predict_images(
    classifier: FashionClassifier, images: Iterable[ImageLike], batch_size: int = 64
) -> list[Prediction]:
    """Classifies images and photos.

    Args:
        classifier: Used in evaluation mode, on the device where it is.
        images: Files, Pillow images, or uint8 arrays or tensors, shape (H, W), (H, W, 3) or
            (H, W, 4). One of 28x28 pixels is taken as an image of the dataset; any other is a
            photo, of which the probabilities of several views are averaged, see
            :func:`~fmnist_lightning.photos.preprocessing.preprocess_photo`.
        batch_size: Number of images that are classified at a time.

    Returns:
        A prediction for each image.

    Raises:
        ValueError: If an image can't be read, or is of another shape or type.
        ImportError: If there are photos, and OpenCV is not installed.
    """
    shape = getattr(images, "shape", ())
    single = len(shape) == 2 or shape[2:] in ((3,), (4,))
    if single or isinstance(images, str | os.PathLike | Image):
        raise ValueError("predict_images takes a list of images, not a single image: put it in [ ]")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    predictions: list[Prediction] = []
    training = [module for module in classifier.modules() if module.training]
    classifier.eval()
    try:
        remaining = iter(images)
        while batch := [to_views(load_image(i)) for i in itertools.islice(remaining, batch_size)]:
            for row in _predict_views(classifier, batch):
                probabilities = dict(zip(classifier.classes, row, strict=True))
                label = max(probabilities, key=probabilities.__getitem__)
                predictions.append(Prediction(label, probabilities[label], probabilities))
    finally:
        for module in training:
            module.training = True
    return predictions


def _predict_views(classifier: FashionClassifier, batch: list[Tensor]) -> list[list[float]]:
    """Probabilities for each item of uint8, shape (V, 28, 28); V may differ between the items."""
    rows: dict[int, list[float]] = {}
    for num_views in {len(views) for views in batch}:
        indices = [index for index, views in enumerate(batch) if len(views) == num_views]
        stacked = torch.stack([batch[index] for index in indices]).to(classifier.device)
        rows |= dict(zip(indices, classifier.probabilities(stacked).tolist(), strict=True))
    return [rows[index] for index in range(len(batch))]
