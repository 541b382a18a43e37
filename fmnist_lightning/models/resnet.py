"""A small residual network, and an ensemble of several. Plain PyTorch."""

import functools
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmnist_lightning.data.dataset import IMAGE_SIZE, NUM_CLASSES
from fmnist_lightning.models.pooling import FastMaxPool2d


def conv_bn_relu(in_channels: int, out_channels: int, *pooling: nn.Module) -> nn.Sequential:
    """A 3x3 convolution that keeps height and width, optional pooling, normalization and ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(conv, *pooling, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(conv_bn_relu(channels, channels) for _ in range(2)))

    def forward(self, input: Tensor) -> Tensor:
        """Feature maps (N, channels, H, W) to feature maps of the same shape."""
        output: Tensor = input + self.body(input)
        return output


class SmallResNet(nn.Module):
    """A residual network (https://arxiv.org/abs/1512.03385) of 3x3 convolutions.

    A stem at full resolution; then stages of convolution, 2x2 max pooling and residual block; then
    global max pooling and a linear layer. The default has 486,650 parameters.

    Args:
        stem_channels: Channels of the stem.
        channels: Channels of each stage, 1 to 4 stages.
        stem_block: Residual block after the stem: more accurate, but a step takes a third longer.
        dropout: Probability of dropout before the linear layer, 0 to 1.
        num_classes: Number of classes.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        stem_channels: int = 16,
        channels: Sequence[int] = (32, 64, 128),
        stem_block: bool = False,
        dropout: float = 0.0,
        num_classes: int = NUM_CLASSES,
    ) -> None:
        super().__init__()
        if not 1 <= len(channels) <= 4 or min(stem_channels, *channels) < 1:
            raise ValueError(
                "SmallResNet needs 1 to 4 stages and at least 1 channel in each, "
                f"not stem_channels {stem_channels} and channels {list(channels)}"
            )
        layers: list[nn.Module] = [conv_bn_relu(1, stem_channels)]  # (N, stem_channels, 28, 28)
        if stem_block:
            layers.append(ResidualBlock(stem_channels))
        # Each stage halves height and width.
        for in_channels, out_channels in itertools.pairwise([stem_channels, *channels]):
            layers.append(conv_bn_relu(in_channels, out_channels, FastMaxPool2d()))
            layers.append(ResidualBlock(out_channels))
        size = IMAGE_SIZE >> len(channels)
        self.features = nn.Sequential(*layers)  # (N, channels[-1], size, size)
        pool = nn.MaxPool2d(size)  # on GPUs, AdaptiveMaxPool2d has no deterministic gradient
        self.head = nn.Sequential(
            pool, nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1], num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) to logits (N, num_classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class ResNetEnsemble(nn.Module):
    """Several ``SmallResNet``, trained independently, whose probabilities are averaged.

    In training, each member gets its own part of each batch. So a step costs as much as with one
    network, and each member learns as much as in ``1 / num_members`` of the epochs.

    Args:
        num_members: Number of networks, 1 to 100; a ValueError refuses others.
        stem_channels, channels, stem_block, num_classes: As of :class:`SmallResNet`.
    """

    def __init__(
        self,
        num_members: int = 3,
        stem_channels: int = 16,
        channels: Sequence[int] = (32, 64, 128),
        stem_block: bool = True,
        num_classes: int = NUM_CLASSES,
    ) -> None:
        super().__init__()
        if not 1 <= num_members <= 100:
            raise ValueError(f"num_members must be 1 to 100, not {num_members}")
        member = functools.partial(SmallResNet, stem_channels, channels, stem_block)
        self.members = nn.ModuleList(member(num_classes=num_classes) for _ in range(num_members))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) to logits (N, num_classes); in eval mode, log-probabilities."""
        if self.training:
            parts = images.chunk(len(self.members))  # a small batch has fewer parts than members
            return torch.cat([net(part) for net, part in zip(self.members, parts, strict=False)])
        logits = torch.stack([member(images) for member in self.members])  # (members, N, classes)
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(self.members))
