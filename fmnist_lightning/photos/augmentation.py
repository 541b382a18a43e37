"""Training pictures as if they had come from photos taken at home. Plain PyTorch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmnist_lightning.data.augmentation import RandomAugmentation
from fmnist_lightning.data.dataset import CLASSES

SHOES, SLEEVES, LEGS = (
    [CLASSES.index(name) for name in names]
    for names in (("Sandal", "Sneaker", "Ankle boot"), ("Pullover", "Coat", "Shirt"), ("Trouser",))
)
CANVAS = 48  # pixels: room around a picture that is turned and spread
REACH = CANVAS / 28  # of the canvas, where the picture goes from -1 to 1
DARK = 0.04  # up to here, a pixel is ground
OFTEN = 3  # shoes in photos look least like those of the data set: they are chosen so much oftener


class PhotoAugmentation(nn.Module):
    """Does to pictures what the way from a photo to a picture does.

    Clothes lie crooked, with sleeves and legs spread; shoes stand in pairs and are seen from above;
    the edge that was found is ragged, and a part may be missing; light is uneven, and prints are
    where the data set has plain cloth. Like a photo's, the result is cropped and in the middle.

    It works on the device of the pictures and draws from its generator, as ``RandomAugmentation``
    does. In evaluation it changes nothing.

    Args:
        prob: How many of a batch are changed so, 0 to 1; the others are mirrored, shifted by
            up to a pixel, and half of them erased in part, see ``RandomAugmentation``.

    Raises:
        ValueError: If ``prob`` is out of range.
    """

    def __init__(self, prob: float = 0.3) -> None:
        super().__init__()
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must be 0 to 1, not {prob}")
        self.prob = prob
        self.base_augmentation = RandomAugmentation(
            hflip_prob=0.5, max_translation=1, erase_prob=0.5
        )

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Changes a batch.

        Args:
            images: Pictures, uint8, shape (N, 28, 28).
            labels: Class numbers, int64, shape (N,).

        Returns:
            New pictures of the same type and shape; in evaluation, ``images`` itself.
        """
        if not self.training:
            return images
        out: Tensor = self.base_augmentation(images)
        num = round(self.prob * len(images))  # a number that a GPU need not be asked for
        if num:
            often = torch.where(_among(labels, SHOES)[:, 0, 0], OFTEN, 1)
            chosen = (torch.rand(len(images), device=images.device) / often).argsort()[:num]
            pixels = images[chosen].unsqueeze(1).float() / 255  # (M, 1, 28, 28)
            pixels = torch.where(_chance(pixels, 0.5), pixels.flip(3), pixels)
            pixels = _pair(pixels, _among(labels[chosen], SHOES))  # (M, 1, 48, 48)
            pixels = _cut(_turn(pixels, labels[chosen]))
            pixels = _light(_fit(pixels))  # (M, 1, 28, 28)
            out[chosen] = (pixels[:, 0] * 255).round().to(torch.uint8)
        return out


def _chance(like: Tensor, chance: float) -> Tensor:
    """True for so many of a batch, in a shape that goes with ``like``."""
    return torch.rand(len(like), *[1] * (like.ndim - 1), device=like.device) < chance


def _between(like: Tensor, low: float, high: float) -> Tensor:
    """A number for each of a batch, in a shape that goes with ``like``."""
    return low + (high - low) * torch.rand(len(like), *[1] * (like.ndim - 1), device=like.device)


def _smooth(like: Tensor, points: int) -> Tensor:
    """A random landscape for each of a batch, of so many points a side, shape of ``like``."""
    rough = torch.randn(len(like), 1, points, points, device=like.device)
    return F.interpolate(rough, size=like.shape[-2:], mode="bilinear").view_as(like)


def _grid(pixels: Tensor, size: int, reach: float) -> tuple[Tensor, Tensor]:
    """Coordinates x and y for each of a batch, shape (N, size, size); a picture is -1 to 1."""
    line = torch.linspace(-reach, reach, size, device=pixels.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x.expand(len(pixels), -1, -1), y.expand(len(pixels), -1, -1)


def _take(pixels: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Reads pictures at coordinates; what is outside is black."""
    return F.grid_sample(pixels, torch.stack((x, y), dim=-1), align_corners=False)


def _among(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Which labels are of these classes, shape (N, 1, 1)."""
    return torch.stack([labels == each for each in classes]).any(dim=0)[:, None, None]


def _box(pixels: Tensor) -> tuple[Tensor, ...]:
    """Left, right, top and bottom of what is not ground, -1 to 1, shape (N, 1, 1) each."""
    seen = pixels[:, 0] > DARK
    size = seen.shape[-1]
    edges = []
    for dim in (1, 2):  # over rows: the columns, then the other way round
        line = seen.any(dim=dim).float()
        edges += [line.argmax(dim=1), size - line.flip(1).argmax(dim=1)]
    return tuple(2 * edge[:, None, None] / size - 1 for edge in edges)


def _pair(pixels: Tensor, shoes: Tensor) -> Tensor:
    """Shows half of the shoes from above, and most of them in pairs; all get room around them."""
    x, y = _grid(pixels, CANVAS, REACH)
    _, _, top, bottom = _box(pixels)
    height, middle = bottom - top, torch.where(shoes, (top + bottom) / 2, 0)
    # From above, a shoe is as wide on both sides, and there is an opening.
    above, fold = shoes & _chance(x, 0.5), torch.where(_chance(x, 0.5), -1, 1)
    place = _between(x, -0.6, 0.6)
    tone = torch.where(above & _chance(x, 0.7), _between(x, 0.3, 1.8), 1)

    def shoe(x: Tensor, y: Tensor) -> Tensor:
        seen = _take(pixels, x, middle + torch.where(above, fold * y.abs(), y))
        opening = ((x - place) / 0.35) ** 2 + (y / height / 0.3) ** 2 < 1
        return torch.where(opening[:, None], seen * tone[:, None], seen).clamp(max=1)

    pairs = shoes & _chance(x, 0.75)
    apart = torch.where(pairs, height / 2 * _between(x, 0.7, 1.2), 0)
    along = torch.where(pairs, _between(x, -0.2, 0.2), 0)
    first = shoe(x + along, y + apart)
    # Left and right are mirror images from above; from the side, they look the same.
    second = shoe(x - along, torch.where(above | _chance(x, 0.5), apart - y, y - apart))
    return torch.where((pairs & (second[:, 0] > DARK))[:, None], second, first)


def _turn(pixels: Tensor, labels: Tensor) -> Tensor:
    """Turns and bends pictures, changes their proportions, and spreads sleeves and legs."""
    x, y = _grid(pixels, CANVAS, REACH)
    shoes, sleeves, legs = (_among(labels, each) for each in (SHOES, SLEEVES, LEGS))
    # A small thing has lost its details when it is brought back to size: what is left is its shape,
    # which is what shoes in photos have in common with those of the data set.
    small = torch.where(shoes, _between(x, 1.2, 2.2), _between(x, 1.0, 1.6))
    x, y = (x + 0.06 * _smooth(x, 6)) * small, (y + 0.06 * _smooth(y, 6)) * small
    # Most clothes lie nearly upright; shoes point anywhere, most of them up or down.
    quarters = torch.randint(0, 4, (len(x), 1, 1), device=x.device) * (math.pi / 2)
    angle = 0.1 * torch.randn(len(x), 1, 1, device=x.device)
    angle = torch.where(shoes, 3 * angle + quarters, angle)
    x, y = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    x = x / _between(x, 0.9, 1.1)
    x = x + y * _between(x, -0.1, 0.1)
    # Beyond `body` from the middle, all moves out, the further down the more; a gap opens there.
    body = torch.where(legs, 0, _between(x, 0.4, 0.65))
    slope = torch.where(legs, _between(x, 0, 0.25), _between(x, 0, 0.6))
    start = torch.where(legs, _between(x, -0.6, -0.2), _between(x, -0.8, -0.4))
    out = (slope * (y - start)).clamp(min=0)
    out = torch.where((legs | sleeves) & _chance(x, 0.4), out, 0)
    side = x.abs()
    moved = torch.where(side > body + out, side - out, torch.where(side > body, 9.0, side))
    return _take(pixels, moved * x.sign() / REACH, y / REACH)


def _cut(pixels: Tensor) -> Tensor:
    """Takes pieces away at one side of some pictures, as a wrong edge does."""
    x, y = _grid(pixels, CANVAS, REACH)
    turn = _between(x, 0, 2 * math.pi)
    line = _between(x, 0.35, 1.0) + 0.1 * _smooth(x, 8)
    kept = (x * turn.cos() + y * turn.sin() < line) | ~_chance(x, 0.1)
    return pixels * kept[:, None]


def _fit(pixels: Tensor) -> Tensor:
    """Crops to what is not ground, and puts it in the middle of 28x28, the longer side filled."""
    left, right, top, bottom = _box(pixels)
    reach = torch.maximum(right - left, bottom - top) / 2
    x, y = _grid(pixels, 28, 27 / 28)
    return _take(pixels, x * reach + (left + right) / 2, y * reach + (top + bottom) / 2)


def _light(pixels: Tensor) -> Tensor:
    """Changes brightness and contrast, adds a slope of light, prints, and noise."""
    mask = (pixels > DARK).float()
    # The edge is a mixture with the ground: there, the colour is that of what is inside.
    inside = 1 - F.max_pool2d(1 - mask, 3, stride=1, padding=1)
    share = F.avg_pool2d(inside, 5, stride=1, padding=2)
    near = F.avg_pool2d(pixels * inside, 5, stride=1, padding=2) / share.clamp(min=0.04)
    edge = (mask > inside) & (share > 0.04)
    cover = torch.where(edge, (pixels / near.clamp(min=0.04)).clamp(0.3, 1), mask)
    colour = torch.where(edge, near, pixels)
    total = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (colour * mask).sum(dim=(2, 3), keepdim=True) / total
    contrast = _between(pixels, 0.5, 1.6)
    contrast = torch.where(_chance(pixels, 0.25), -contrast, contrast)
    changed = mean + _between(pixels, -0.3, 0.3) + contrast * (colour - mean)
    x, y = (each[:, None] for each in _grid(pixels, 28, 1.0))
    changed = changed + x * _between(pixels, -0.2, 0.2) + y * _between(pixels, -0.2, 0.2)
    changed = changed + _between(pixels, 0.0, 0.12) * _smooth(pixels, 7)
    changed = changed + _between(pixels, 0.0, 0.06) * torch.randn_like(pixels)
    return (changed + _print(x, y)).clamp(0.08, 1) * cover


def _print(x: Tensor, y: Tensor) -> Tensor:
    """Stripes or checks, flowers, two colours, or a patch, on half of the pictures."""
    turn = _between(x, 0, math.pi)
    across, along = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    pace = _between(x, 5, 30)
    stripes = (pace * across).sin() + torch.where(_chance(x, 0.5), (pace * along).sin(), 0)
    flowers = _smooth(x, 14)
    halves = (across - _between(x, -0.4, 0.4)).sign()
    sides = ((x - _between(x, -0.3, 0.3)) / 0.4).abs(), ((y - _between(x, -0.5, 0.5)) / 0.3).abs()
    patch = (torch.maximum(*sides) < _between(x, 0.4, 1.2)).float() * _between(x, -2, 2)
    kind = 8 * torch.rand_like(x[:, :1, :1, :1])
    pattern = torch.zeros_like(x)
    for number, each in enumerate((stripes, flowers, halves, patch)):
        pattern = torch.where((kind >= number) & (kind < number + 1), each, pattern)
    return _between(x, 0.05, 0.3) * pattern
