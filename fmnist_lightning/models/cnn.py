"""The networks of the article. Plain PyTorch."""

import torch
from torch import Tensor, nn

from fmnist_lightning.data.dataset import IMAGE_SIZE, NUM_CLASSES
from fmnist_lightning.models.pooling import FastMaxPool2d


class ArticleCNN(nn.Module):
    """The CNN of the article, with 11,252 parameters. Its convolutions have no activations.

    Args:
        sigmoid: Whether to end with a sigmoid, as the article does. The cross-entropy then gets
            values from 0 to 1, which costs about ten points of accuracy. Without it, the outputs
            are logits.
        num_classes: Number of classes.
    """

    def __init__(self, sigmoid: bool = False, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(1, 6, kernel_size=5),  # (N, 6, 24, 24)
            FastMaxPool2d(),  # (N, 6, 12, 12)
            nn.Conv2d(6, 10, kernel_size=5),  # (N, 10, 8, 8)
            FastMaxPool2d(),  # (N, 10, 4, 4)
        )
        self.head = nn.Sequential(
            nn.Flatten(),  # (N, 160)
            nn.Linear(10 * 4 * 4, 56),
            nn.ReLU(),
            nn.Linear(56, num_classes),
        )
        self.sigmoid = sigmoid

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.features(images))
        return torch.sigmoid(logits) if self.sigmoid else logits


class MLP(nn.Module):
    """A network with one hidden layer, which the article compares its CNN with.

    Args:
        hidden_dim: Units of the hidden layer.
        num_classes: Number of classes.
    """

    def __init__(self, hidden_dim: int = 128, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(IMAGE_SIZE**2, hidden_dim), nn.ReLU())
        self.head = nn.Linear(hidden_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits
