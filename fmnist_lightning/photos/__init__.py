"""Photos of garments: augmentation and prediction. Photos need OpenCV (the extra ``photos``)."""

from fmnist_lightning.photos.augmentation import PhotoAugmentation
from fmnist_lightning.photos.predict import Prediction, predict_images

__all__ = ["PhotoAugmentation", "Prediction", "predict_images"]
