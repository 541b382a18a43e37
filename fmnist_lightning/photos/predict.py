"""Predicts the classes of image files, Pillow images and arrays."""

import os
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import torch
from PIL.Image import Image

from fmnist_lightning.photos.images import ImageLike, load_image
from fmnist_lightning.photos.preprocessing import preprocess_photo
from fmnist_lightning.training.module import FashionClassifier


class Prediction(NamedTuple):
    """The prediction for an image."""

    label: str  # the most probable class
    confidence: float  # its probability, 0 to 1
    probabilities: dict[str, float]  # of each class, by name


@torch.inference_mode()
def predict_images(
    classifier: FashionClassifier, images: Iterable[ImageLike], batch_size: int = 64
) -> list[Prediction]:
    """Classifies images and photos.

    Args:
        classifier: Used in evaluation mode, on its device.
        images: Files, Pillow images, or uint8 arrays or tensors, shape (H, W), (H, W, 3) or
            (H, W, 4). Those of 28x28 pixels are images of the dataset. All others are photos, and
            probabilities are averaged over their views, see ``preprocessing.preprocess_photo``.
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
        raise ValueError("predict_images takes a list of images, not a single one: put it in [ ]")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    predictions: list[Prediction] = []
    remaining = iter(images)
    training = [module for module in classifier.modules() if module.training]
    classifier.eval()
    try:
        while batch := [preprocess_photo(load_image(i)) for i in islice(remaining, batch_size)]:
            rows = classifier.probabilities(torch.cat(batch).to(classifier.device))
            for views in torch.split(rows, [len(each) for each in batch]):  # (V, C)
                probabilities = dict(
                    zip(classifier.classes, views.mean(dim=0).tolist(), strict=True)
                )
                label = max(probabilities, key=probabilities.__getitem__)
                predictions.append(Prediction(label, probabilities[label], probabilities))
    finally:
        for module in training:
            module.training = True
    return predictions
