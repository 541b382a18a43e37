"""Networks that were tried for the configs and not kept, see `SEARCH.md`.

With `PYTHONPATH=benchmarks`, they are `--model.network candidates.Padded` and so on. All take
pictures, shape (N, 1, 28, 28), and give logits, shape (N, 10).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


def conv(
    inputs: int, outputs: int, size: int, pad: int, pool: bool, act: str = "relu"
) -> nn.Sequential:
    """Convolution, pooling where asked, batch normalisation, activation."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, size, padding=pad, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), ACTIVATIONS[act]())


def num_features(features: nn.Module) -> int:
    """How many values are left of a picture."""
    with torch.no_grad():
        maps: Tensor = features.eval()(torch.zeros(1, 1, 28, 28))
    features.train()
    return maps.numel()


def over_all_places(inputs: int, kind: str) -> nn.Sequential:
    """The mean of all places (``avg``), or their maximum (``max``), and a linear layer."""
    pool = nn.AdaptiveAvgPool2d(1) if kind == "avg" else nn.AdaptiveMaxPool2d(1)
    return nn.Sequential(pool, nn.Flatten(), nn.Linear(inputs, 10))


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int, act: str) -> None:
        super().__init__()
        self.body = nn.Sequential(*[conv(width, width, 3, 1, False, act) for _ in range(2)])

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        maps: Tensor = images + self.body(images)
        return maps


class SqueezeExcitation(Residual):
    """The same, with a factor for each channel that depends on all of the picture."""

    def __init__(self, width: int) -> None:
        super().__init__(width, "relu")
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // 4, 1),
            nn.ReLU(),
            nn.Conv2d(width // 4, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        added = self.body(images)
        maps: Tensor = images + added * self.gate(added)
        return maps


class Padded(nn.Module):
    """Convolutions of 3x3 with padding, the first of each stage with pooling, then a mean.

    Args:
        widths: Channels of each stage.
        convs: Convolutions, or residual pairs, after the first of each stage.
        res: Whether they are residual.
        act: Activation.
        head: ``avg`` or ``max``, over all places.
        stemk: Size of the first convolution.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (32, 64, 128),
        convs: tuple[int, ...] = (1, 1, 1),
        res: bool = False,
        act: str = "relu",
        head: str = "avg",
        stemk: int = 3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for width, num in zip(widths, convs, strict=True):
            size = 3 if layers else stemk
            layers.append(conv(inputs, width, size, size // 2, True, act))
            for _ in range(num):
                layers.append(Residual(width, act) if res else conv(width, width, 3, 1, False, act))
            inputs = width
        self.features = nn.Sequential(*layers)
        self.head = over_all_places(inputs, head)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures to logits."""
        logits: Tensor = self.head(self.features(images))
        return logits


class TwoStages(nn.Module):
    """Two stages of one or two convolutions and pooling, then two linear layers.

    Args:
        w1: Channels of the first stage.
        w2: Channels of the second stage.
        hidden: Units of the first linear layer.
        k: Size of the convolutions.
        pad: Their padding.
        drop: Dropout before each linear layer.
        convs: Convolutions in a stage, 1 or 2.
    """

    def __init__(
        self,
        w1: int = 32,
        w2: int = 64,
        hidden: int = 32,
        k: int = 5,
        pad: int = 0,
        drop: float = 0.2,
        convs: int = 1,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for width in (w1, w2):
            if convs == 2:
                layers.append(conv(inputs, width, k, pad, pool=False))
                inputs = width
            layers.append(conv(inputs, width, k, pad, pool=True))
            inputs = width
        self.features = nn.Sequential(*layers)
        num = num_features(self.features)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(drop),
            nn.Linear(num, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(drop),
            nn.Linear(hidden, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Pictures to logits."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class Stages(nn.Module):
    """Stages of unpadded 3x3 convolutions, pooling after each, then a mean or a hidden layer.

    Args:
        widths: Channels of the convolutions of each stage.
        hidden: Units of the hidden layer; 0 takes the mean over all places of the last stage, which
            then has no pooling.
    """

    def __init__(
        self,
        widths: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64), (128,)),
        hidden: int = 0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for stage in widths:
            pools = hidden > 0 or stage is not widths[-1]
            for index, width in enumerate(stage):
                pool = pools and index == len(stage) - 1
                layers.append(conv(inputs, width, 3, 0, pool))
                inputs = width
        self.features = nn.Sequential(*layers)
        head: list[nn.Module] = [*over_all_places(inputs, "avg")]
        if hidden:
            num = num_features(self.features)
            head = [nn.Flatten(), nn.Linear(num, hidden, bias=False), nn.BatchNorm1d(hidden)]
            head += [nn.ReLU(), nn.Linear(hidden, 10)]
        self.head = nn.Sequential(*head)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures to logits."""
        logits: Tensor = self.head(self.features(images))
        return logits


class Plan(nn.Module):
    """Convolutions of 3x3 with padding, as a line of text says, then a mean over all places.

    Args:
        plan: Channels of each convolution, with a ``p`` where pooling or an ``s`` where stride
            halves the places; ``r`` for a residual pair.
        se: Whether the pairs have squeeze and excitation.
        head: ``avg`` or ``max``, over all places.
    """

    def __init__(
        self, plan: str = "32 32p r 64p r 128p r", se: bool = False, head: str = "avg"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for word in plan.split():
            if word == "r":
                layers.append(SqueezeExcitation(inputs) if se else Residual(inputs, "relu"))
                continue
            width = int(word.rstrip("ps"))
            stage = conv(inputs, width, 3, 1, word.endswith("p"))
            if word.endswith("s"):
                stage[0] = nn.Conv2d(inputs, width, 3, stride=2, padding=1, bias=False)
            layers.append(stage)
            inputs = width
        self.features = nn.Sequential(*layers)
        self.head = over_all_places(inputs, head)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures to logits."""
        logits: Tensor = self.head(self.features(images))
        return logits
