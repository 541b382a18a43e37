"""Photos of clothes: reading, segmentation, augmentation, prediction. Needs the extra ``photos``."""

from fmnist_lightning.photos.augmentation import PhotoAugmentation

__all__ = ["PhotoAugmentation"]
