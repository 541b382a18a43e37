"""Predicts the classes of image files, Pillow images and arrays."""

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from lightning.pytorch import LightningModule
from PIL.Image import Image
from torch import Tensor
from typing_extensions import override

from fmnist_lightning.photos.augmentation import PhotoAugmentation
from fmnist_lightning.photos.imagenet import class_probabilities, imagenet_network
from fmnist_lightning.photos.images import ImageLike, Photo, load_image
from fmnist_lightning.photos.preprocessing import PreprocessedPhoto, preprocess_photo
from fmnist_lightning.training.module import FashionClassifier

NOT_FOR_PHOTOS = "This network was not trained for photos: fit --config photos trains one"


def is_for_photos(classifier: FashionClassifier) -> bool:
    """Whether it was trained on images that look like photos."""
    return type(classifier.augmentation) is PhotoAugmentation


class Prediction(NamedTuple):
    """The prediction for an image."""

    label: str  # the most probable class
    confidence: float  # its probability, 0 to 1
    probabilities: dict[str, float]  # of each class, by name


class PhotoClassifier(LightningModule):
    """Classifies photos with a classifier of Fashion-MNIST and a network trained on ImageNet.

    The first sees 28x28 pixels without color, and was trained for these classes. The second sees
    the photo. The probabilities of both are multiplied, as if they were independent. Images of the
    dataset are left to the first.

    Args:
        classifier: Of any classes; those that the second network does not know are left to it.
    """

    def __init__(self, classifier: FashionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, photos: Sequence[PreprocessedPhoto]) -> Tensor:
        """Class probabilities, shape (N, C), of N photos."""
        device = self.classifier.device
        views = torch.cat([photo.views for photo in photos]).to(device)  # (sum of V, 28, 28)
        nums = [len(photo.views) for photo in photos]
        parts = torch.split(self.classifier.probabilities(views), nums)  # (V, C) each
        probabilities = torch.stack([part.mean(dim=0) for part in parts])  # (N, C)
        has_crop = torch.tensor([len(photo.crops) > 0 for photo in photos])
        if has_crop.any():
            crops = torch.cat([photo.crops for photo in photos]).to(device)  # (K, 224, 224, 3)
            probabilities[has_crop] *= class_probabilities(crops, self.classifier.classes)
        return probabilities / probabilities.sum(dim=1, keepdim=True)

    @override
    def setup(self, stage: str) -> None:
        imagenet_network()  # so that an error comes before the first photo

    @override
    def predict_step(self, batch: Sequence[Photo], batch_idx: int) -> Tensor:
        """Class probabilities of a batch, shape (N, C)."""
        probabilities: Tensor = self([photo.preprocessed for photo in batch])
        return probabilities


@torch.inference_mode()
def predict_images(
    classifier: FashionClassifier, images: Iterable[ImageLike], batch_size: int = 64
) -> list[Prediction]:
    """Classifies images and photos.

    Args:
        classifier: Used in evaluation mode, on its device.
        images: Files, Pillow images, or uint8 arrays or tensors, shape (H, W), (H, W, 3) or
            (H, W, 4). Those of 28x28 pixels are images of the dataset. All others are photos, see
            :class:`PhotoClassifier`.
        batch_size: Number of images that are classified at a time.

    Returns:
        A prediction for each image.

    Raises:
        ValueError: If an image can't be read, or is of another shape or type.
        ImportError: If there are photos, and a package of the extra ``photos`` is not installed.
    """
    shape = getattr(images, "shape", ())
    single = len(shape) == 2 or shape[2:] in ((3,), (4,))
    if single or isinstance(images, str | os.PathLike | Image):
        raise ValueError("predict_images takes a list of images, not a single one: put it in [ ]")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    predictions: list[Prediction] = []
    remaining = iter(images)
    photo_classifier = PhotoClassifier(classifier)
    training = [module for module in classifier.modules() if module.training]
    classifier.eval()
    try:
        while batch := [preprocess_photo(load_image(i)) for i in islice(remaining, batch_size)]:
            for row in photo_classifier(batch).tolist():
                probabilities = dict(zip(classifier.classes, row, strict=True))
                label = max(probabilities, key=probabilities.__getitem__)
                predictions.append(Prediction(label, probabilities[label], probabilities))
    finally:
        for module in training:
            module.training = True
    return predictions
