"""The dataset: download, tensors, split, data module, augmentation."""
