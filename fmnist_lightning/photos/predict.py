"""Predicts the classes of image files, Pillow images and arrays."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from typing_extensions import override

from fmnist_lightning.data.checks import is_fashion_mnist
from fmnist_lightning.data.images import ImageLike, load_image
from fmnist_lightning.photos.augmentation import PhotoAugmentation
from fmnist_lightning.photos.dataset import Photo
from fmnist_lightning.photos.imagenet import class_probabilities, imagenet_network
from fmnist_lightning.photos.preprocessing import PreprocessedPhoto, import_opencv, preprocess_photo
from fmnist_lightning.training.module import FashionClassifier

NOT_FOR_PHOTOS = "This network was not trained for photos; --ckpt_path photos was"
UNSURE = 0.5  # a confidence below it


def is_for_photos(classifier: FashionClassifier) -> bool:
    """Whether it was trained on own images, or on some that look like photos."""
    is_own = not is_fashion_mnist(classifier.classes)
    return is_own or type(classifier.augmentation) is PhotoAugmentation


class Prediction(NamedTuple):
    """The most probable class of an image, its probability, 0 to 1, and those of all classes."""

    label: str
    confidence: float
    probabilities: dict[str, float]


class PhotoClassifier(LightningModule):
    """Classifies photos with a classifier of Fashion-MNIST and a network trained on ImageNet.

    The first sees 28x28 pixels without color, the second sees the photo. Their probabilities are
    multiplied, as if they were independent. Images of the dataset are left to the first, and so are
    all images for a classifier of other classes.
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
            probabilities[has_crop] *= class_probabilities(crops)
        return probabilities / probabilities.sum(dim=1, keepdim=True)

    @override
    def setup(self, stage: str) -> None:
        if is_fashion_mnist(self.classifier.classes):  # an error comes before the first photo
            import_opencv()
            imagenet_network()

    @override
    def predict_step(self, batch: Sequence[Photo], batch_idx: int) -> Tensor:
        return self.forward([photo.preprocessed for photo in batch])


@torch.inference_mode()
def predict_images(
    classifier: FashionClassifier, images: Iterable[ImageLike], batch_size: int = 64
) -> list[Prediction]:
    """Classifies images and photos; returns a prediction for each.

    Args:
        classifier: Used in evaluation mode, on its device.
        images: Files, Pillow images, or uint8 arrays or tensors, shape (H, W), (H, W, 3) or
            (H, W, 4). For a classifier of Fashion-MNIST, those of 28x28 pixels are images of the
            dataset, and all others are photos, see :class:`PhotoClassifier`. For other classes,
            they are prepared as those of ``ImageFolderDataModule``.
        batch_size: Number of images that are classified at a time.

    Raises:
        ValueError: If an image can't be read, or is of another shape or type.
        ImportError: If there are photos, and a package of the extra ``photos`` is not installed.
    """
    is_color_image = getattr(images, "shape", ())[2:] in ((3,), (4,))
    if is_color_image or isinstance(images, str):
        raise ValueError("predict_images takes a list of images, not a single one: put it in [ ]")
    predictions: list[Prediction] = []
    remaining = iter(images)
    training = [module for module in classifier.modules() if module.training]
    photo_classifier = PhotoClassifier(classifier).eval()
    try:
        while batch := [load_image(image) for image in islice(remaining, batch_size)]:
            photos = [preprocess_photo(image, classifier.classes) for image in batch]
            for row in photo_classifier(photos).tolist():
                probabilities = dict(zip(classifier.classes, row, strict=True))
                label = max(probabilities, key=probabilities.__getitem__)
                predictions.append(Prediction(label, probabilities[label], probabilities))
    finally:
        for module in training:
            module.training = True
    return predictions
