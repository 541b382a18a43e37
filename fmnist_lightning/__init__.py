"""Fashion-MNIST with PyTorch Lightning: a small reference, and a fast, repeatable baseline."""

from fmnist_lightning.data.augmentation import RandomAugmentation
from fmnist_lightning.data.datamodule import FashionMNISTDataModule
from fmnist_lightning.data.folder import ImageFolderDataModule
from fmnist_lightning.distillation import Distillation
from fmnist_lightning.models.cnn import MLP, ArticleCNN
from fmnist_lightning.models.pretrained import PretrainedNetwork
from fmnist_lightning.models.resnet import ResNetEnsemble, SmallResNet
from fmnist_lightning.runs.checkpoint import load_classifier
from fmnist_lightning.trainer import create_trainer
from fmnist_lightning.training.module import FashionClassifier

__version__ = "0.1.0"
__all__ = [
    "MLP",
    "ArticleCNN",
    "Distillation",
    "FashionClassifier",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
    "PretrainedNetwork",
    "RandomAugmentation",
    "ResNetEnsemble",
    "SmallResNet",
    "__version__",
    "create_trainer",
    "load_classifier",
]
