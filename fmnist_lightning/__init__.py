"""Fashion-MNIST with PyTorch Lightning: a small reference, and a fast, repeatable baseline."""

from fmnist_lightning.data.augmentation import RandomAugmentation
from fmnist_lightning.data.datamodule import FashionMNISTDataModule
from fmnist_lightning.models.cnn import MLP, ArticleCNN, RegularizedCNN, ResNetEnsemble, SmallResNet
from fmnist_lightning.models.pretrained import PretrainedNetwork
from fmnist_lightning.trainer import create_trainer
from fmnist_lightning.training.checkpoint import load_classifier
from fmnist_lightning.training.module import FashionClassifier

__all__ = [
    "MLP",
    "ArticleCNN",
    "FashionClassifier",
    "FashionMNISTDataModule",
    "PretrainedNetwork",
    "RandomAugmentation",
    "RegularizedCNN",
    "ResNetEnsemble",
    "SmallResNet",
    "create_trainer",
    "load_classifier",
]
