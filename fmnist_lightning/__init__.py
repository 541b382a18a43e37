"""Fashion-MNIST with PyTorch Lightning: a small reference, and a fast, repeatable baseline."""

from fmnist_lightning.augmentation import RandomAugmentation
from fmnist_lightning.checkpoints import load_classifier
from fmnist_lightning.classifier import Answer, FashionClassifier
from fmnist_lightning.datamodule import FashionMNISTDataModule
from fmnist_lightning.networks import MLP, ArticleCNN, RegularizedCNN, ResidualCNN, ResidualEnsemble
from fmnist_lightning.photo_augmentation import PhotoAugmentation
from fmnist_lightning.pretrained import PretrainedNetwork

__all__ = [
    "MLP",
    "Answer",
    "ArticleCNN",
    "FashionClassifier",
    "FashionMNISTDataModule",
    "PhotoAugmentation",
    "PretrainedNetwork",
    "RandomAugmentation",
    "RegularizedCNN",
    "ResidualCNN",
    "ResidualEnsemble",
    "load_classifier",
]
