"""Fashion-MNIST with PyTorch Lightning: a small reference, and a fast, repeatable baseline."""

from fmnist_lightning.augmentation import RandomAugmentation
from fmnist_lightning.checkpoints import load_classifier
from fmnist_lightning.classifier import FashionClassifier
from fmnist_lightning.datamodule import FashionMNISTDataModule
from fmnist_lightning.networks import MLP, ArticleCNN, RegularizedCNN, ResidualCNN, ResidualEnsemble
from fmnist_lightning.pretrained import PretrainedNetwork

__all__ = [
    "MLP",
    "ArticleCNN",
    "FashionClassifier",
    "FashionMNISTDataModule",
    "PretrainedNetwork",
    "RandomAugmentation",
    "RegularizedCNN",
    "ResidualCNN",
    "ResidualEnsemble",
    "load_classifier",
]
