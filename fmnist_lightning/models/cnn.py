"""The networks: float pictures in, one value for each class out. Plain PyTorch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmnist_lightning.data.dataset import NUM_CLASSES


class FastMaxPool2d(nn.MaxPool2d):
    """``nn.MaxPool2d(2)`` with the same values, faster on CPUs where no gradient is needed.

    ``nn.MaxPool2d`` remembers where each maximum was, also in evaluation, where no one asks.
    Without that, two comparisons of whole slices do, in a tenth of the time for maps of 24x24.
    """

    def __init__(self) -> None:
        super().__init__(kernel_size=2)

    def forward(self, input: Tensor) -> Tensor:
        """Takes the largest of each 2x2 window.

        Args:
            input: Feature maps, float, shape (N, C, H, W).

        Returns:
            Feature maps, shape (N, C, H // 2, W // 2).
        """
        if torch.is_grad_enabled():
            return F.max_pool2d(input, 2)
        height, width = input.shape[-2] // 2 * 2, input.shape[-1] // 2 * 2
        rows = torch.maximum(input[..., 0:height:2, :], input[..., 1:height:2, :])
        return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


class ArticleCNN(nn.Module):
    """The article's convolutional network: 11,252 parameters.

    Two convolutions, each followed by max pooling and by no activation, then two linear layers.

    Args:
        sigmoid: Ends with the sigmoid of the article. It keeps what the loss sees between 0 and 1,
            which holds the training back by about ten points of accuracy; without it the network
            gives logits, which is what cross-entropy expects.
    """

    def __init__(self, sigmoid: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(1, 6, kernel_size=5),  # (N, 6, 24, 24)
            FastMaxPool2d(),  # (N, 6, 12, 12)
            nn.Conv2d(6, 10, kernel_size=5),  # (N, 10, 8, 8)
            FastMaxPool2d(),  # (N, 10, 4, 4)
        )
        self.head = nn.Sequential(
            nn.Flatten(),  # (N, 160)
            nn.Linear(160, 56),
            nn.ReLU(),
            nn.Linear(56, NUM_CLASSES),
        )
        self.sigmoid = sigmoid

    def forward(self, images: Tensor) -> Tensor:
        """Scores each class.

        Args:
            images: Pictures, float, shape (N, 1, 28, 28).

        Returns:
            Logits, float, shape (N, 10); with ``sigmoid``, values between 0 and 1.
        """
        logits: Tensor = self.head(self.features(images))
        return torch.sigmoid(logits) if self.sigmoid else logits


class RegularizedCNN(nn.Module):
    """The article's network with what the article suggests: 85,354 parameters.

    The same two stages of a 5x5 convolution and max pooling, wider, and the same two linear layers,
    with batch normalisation, ReLU and dropout.

    Args:
        dropout: The part of the values that is dropped before each linear layer, 0 to below 1.

    Raises:
        ValueError: If ``dropout`` is out of range.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {dropout}")
        # The normalisation has a bias of its own. It comes after pooling, which leaves it less.
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(1, 32, kernel_size=5, bias=False),  # (N, 32, 24, 24)
            FastMaxPool2d(),  # (N, 32, 12, 12)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=5, bias=False),  # (N, 64, 8, 8)
            FastMaxPool2d(),  # (N, 64, 4, 4)
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Flatten(),  # (N, 1024)
            nn.Dropout(dropout),
            nn.Linear(1024, 32, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(32, NUM_CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores each class: float pictures, shape (N, 1, 28, 28), to logits, shape (N, 10)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class SmallResNet(nn.Module):
    """A small residual network (https://arxiv.org/abs/1512.03385) of 3x3 convolutions.

    A first convolution on all of the 28x28 places, then stages, each of which halves the places and
    ends with two convolutions beside a shortcut; then the maximum over the places that are left.
    As it is by default, it has 486,650 parameters.

    Args:
        stem_channels: Channels of the first convolution.
        channels: Channels of each stage, 1 to 4 of them.
        stem_block: Whether such a pair follows the first convolution, too, on all places. It is
            more accurate, and takes a third more time.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        stem_channels: int = 16,
        channels: Sequence[int] = (32, 64, 128),
        stem_block: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= len(channels) <= 4 or min(stem_channels, *channels) < 1:
            raise ValueError(
                "a SmallResNet has 1 to 4 stages, and at least 1 channel in each, "
                f"not stem_channels {stem_channels} and channels {list(channels)}"
            )
        layers: list[nn.Module] = [conv_bn_relu(1, stem_channels)]  # (N, stem_channels, 28, 28)
        if stem_block:
            layers.append(ResidualBlock(stem_channels))
        inputs = stem_channels
        for width in channels:
            layers += [conv_bn_relu(inputs, width, FastMaxPool2d()), ResidualBlock(width)]
            inputs = width
        side = 28 >> len(channels)
        self.features = nn.Sequential(*layers)  # (N, channels[-1], side, side)
        self.head = nn.Sequential(
            nn.MaxPool2d(side),  # on a GPU, AdaptiveMaxPool2d has no deterministic gradient
            nn.Flatten(),
            nn.Linear(inputs, NUM_CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores each class: float pictures, shape (N, 1, 28, 28), to logits, shape (N, 10)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class ResNetEnsemble(nn.Module):
    """Several ``SmallResNet``, which learn apart from each other and answer together.

    In training, each has a part of the batch of its own. So a step takes the time of one network,
    and each member has learned as much as a single network would in ``1 / num_members`` of the epochs.
    In evaluation, the answer is the logarithm of the mean of their probabilities.

    Args:
        num_members: How many there are.
        stem_channels: See ``SmallResNet``.
        channels: See ``SmallResNet``.
        stem_block: See ``SmallResNet``.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        num_members: int = 3,
        stem_channels: int = 16,
        channels: Sequence[int] = (32, 64, 128),
        stem_block: bool = True,
    ) -> None:
        super().__init__()
        if num_members < 1:
            raise ValueError(f"num_members must be at least 1, not {num_members}")
        self.members = nn.ModuleList(
            [SmallResNet(stem_channels, channels, stem_block) for _ in range(num_members)]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores each class: float pictures, shape (N, 1, 28, 28), to logits, shape (N, 10)."""
        if self.training:
            parts = images.chunk(len(self.members))  # a small batch has fewer
            pairs = zip(self.members, parts, strict=False)
            return torch.cat([member(part) for member, part in pairs])
        answers = torch.stack([member(images) for member in self.members])
        return answers.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(self.members))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn_relu(width, width), conv_bn_relu(width, width))

    def forward(self, input: Tensor) -> Tensor:
        """Feature maps to feature maps of the same shape."""
        maps: Tensor = input + self.body(input)
        return maps


def conv_bn_relu(inputs: int, outputs: int, *pooling: nn.Module) -> nn.Sequential:
    """A 3x3 convolution that keeps the places, pooling if given, normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        *pooling,
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class MLP(nn.Module):
    """The "normal neural network" that the article holds its CNN against: one hidden_dim layer.

    It sees 784 numbers and no picture, so what it learns is tied to positions.

    Args:
        hidden_dim: Units of the hidden_dim layer.

    Raises:
        ValueError: If there are no hidden_dim units.
    """

    def __init__(self, hidden_dim: int = 128) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise ValueError(f"hidden_dim must be at least 1, not {hidden_dim}")
        self.layers = nn.Sequential(
            nn.Flatten(),  # (N, 784)
            nn.Linear(28 * 28, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, NUM_CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores each class: float pictures, shape (N, 1, 28, 28), to logits, shape (N, 10)."""
        logits: Tensor = self.layers(images)
        return logits
