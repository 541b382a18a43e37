"""Photos of garments: reading, segmentation, augmentation, prediction. Needs the extra ``photos``.

Importing it needs no OpenCV; only photos do.
"""

from fmnist_lightning.photos.augmentation import PhotoAugmentation
from fmnist_lightning.photos.predict import Prediction, predict_images

__all__ = ["PhotoAugmentation", "Prediction", "predict_images"]
