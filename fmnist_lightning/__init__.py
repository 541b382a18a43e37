"""Fashion-MNIST with PyTorch Lightning: a small reference, and a fast, repeatable baseline."""

from fmnist_lightning.checkpoints import load_classifier
from fmnist_lightning.classifier import FashionClassifier
from fmnist_lightning.datamodule import FashionMNISTDataModule
from fmnist_lightning.networks import MLP, ArticleCNN

__all__ = ["MLP", "ArticleCNN", "FashionClassifier", "FashionMNISTDataModule", "load_classifier"]
