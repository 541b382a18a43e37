"""Photos of clothes: reading, segmentation, augmentation, prediction."""
