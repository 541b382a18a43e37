"""Photos of garments: augmentation and prediction, which needs the extra ``photos``."""

from fmnist_lightning.photos.augmentation import PhotoAugmentation
from fmnist_lightning.photos.predict import PhotoClassifier, Prediction, predict_images

__all__ = ["PhotoAugmentation", "PhotoClassifier", "Prediction", "predict_images"]
