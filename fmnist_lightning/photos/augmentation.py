"""Makes training images look like those that come from photos taken at home. Plain PyTorch."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmnist_lightning.data.augmentation import RandomAugmentation
from fmnist_lightning.data.dataset import CLASSES

SHOES = ("Sandal", "Sneaker", "Ankle boot")
SLEEVED = ("Pullover", "Coat", "Shirt")
TROUSERS = ("Trouser",)
CANVAS_SIZE = 48  # pixels: leaves room around an image that is rotated and spread
CANVAS_EXTENT = CANVAS_SIZE / 28  # half the canvas, in coordinates where the image is -1 to 1
FOREGROUND_THRESHOLD = 0.04  # up to this value, a pixel is background


class PhotoAugmentation(nn.Module):
    """Makes training images look like preprocessed photos. In evaluation mode it does nothing.

    Garments are rotated and bent, with sleeves and legs spread; shoes stand in pairs or are seen
    from above. Parts may be missing, light is uneven, and plain cloth gets prints.

    Args:
        prob: Fraction of a batch that is changed in this way, 0 to 1. The other images get a
            ``RandomAugmentation``: flip, translation by up to 1 pixel, random erasing.

    Raises:
        ValueError: If ``prob`` is out of range.
    """

    classes = CLASSES  # it knows which are shoes

    def __init__(self, prob: float = 0.3) -> None:
        super().__init__()
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must be 0 to 1, not {prob}")
        self.prob = prob
        self.base_augmentation = RandomAugmentation(0.5, max_translation=1, erase_prob=0.5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """New images, uint8, from ``images``, uint8, shape (N, 28, 28), and ``labels``, (N,)."""
        if not self.training:
            return images
        out: Tensor = self.base_augmentation(images)
        num = round(self.prob * len(images))  # fixed: the host does not wait for a GPU to know it
        if num:
            weights = torch.where(_isin(labels, SHOES), 3, 1)  # shoes differ most
            chosen = (torch.rand(len(images), device=images.device) / weights).argsort()[:num]
            labels = labels[chosen, None, None]
            shoes, sleeved, trousers = (_isin(labels, each) for each in (SHOES, SLEEVED, TROUSERS))
            pixels = images[chosen].unsqueeze(1).float() / 255  # (M, 1, 28, 28)
            pixels = torch.where(_bernoulli(pixels, 0.5), pixels.flip(3), pixels)
            pixels = _pair_shoes(pixels, shoes)  # (M, 1, 48, 48)
            pixels = _random_warp(pixels, shoes, sleeved, trousers)
            pixels = _color_jitter(_crop_and_center(_random_occlusion(pixels)))  # (M, 1, 28, 28)
            out[chosen] = (pixels[:, 0] * 255).round().to(torch.uint8)
        return out


def _isin(labels: Tensor, names: tuple[str, ...]) -> Tensor:
    return torch.stack([labels == CLASSES.index(name) for name in names]).any(dim=0)


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    """One number for each image of a batch, in a shape that broadcasts with ``like``."""
    return low + (high - low) * torch.rand(len(like), *[1] * (like.ndim - 1), device=like.device)


def _bernoulli(like: Tensor, prob: float) -> Tensor:
    return _uniform(like, 0, 1) < prob


def _random_field(like: Tensor, num_points: int) -> Tensor:
    """Smooth noise in the shape of ``like``, from ``num_points`` random values along each axis."""
    coarse = torch.randn(len(like), 1, num_points, num_points, device=like.device)
    return F.interpolate(coarse, size=like.shape[-2:], mode="bilinear").view_as(like)


def _coordinates(pixels: Tensor, size: int, extent: float) -> tuple[Tensor, Tensor]:
    """Values of x and y from -extent to extent, shape (N, size, size) each."""
    line = torch.linspace(-extent, extent, size, device=pixels.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x.expand(len(pixels), -1, -1), y.expand(len(pixels), -1, -1)


def _grid_sample(pixels: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Samples images at x and y, shape (N, H, W); zero outside of -1 to 1."""
    return F.grid_sample(pixels, torch.stack((x, y), dim=-1), align_corners=False)


def _bounding_box(pixels: Tensor) -> tuple[Tensor, ...]:
    """Left, right, top and bottom of the foreground, -1 to 1, shape (N, 1, 1) each."""
    foreground = pixels[:, 0] > FOREGROUND_THRESHOLD
    size = foreground.shape[-1]
    edges = []
    for line in (foreground.any(dim=1).float(), foreground.any(dim=2).float()):  # columns, rows
        edges += [line.argmax(dim=1), size - line.flip(1).argmax(dim=1)]
    return tuple(2 * edge[:, None, None] / size - 1 for edge in edges)


def _pair_shoes(pixels: Tensor, shoes: Tensor) -> Tensor:
    """Shows half of the shoes from above and most of them in pairs; pads all to the canvas."""
    x, y = _coordinates(pixels, CANVAS_SIZE, CANVAS_EXTENT)
    _, _, top, bottom = _bounding_box(pixels)
    height, center = bottom - top, torch.where(shoes, (top + bottom) / 2, 0)
    # From above, a shoe is symmetric and has an opening.
    above, fold = shoes & _bernoulli(x, 0.5), torch.where(_bernoulli(x, 0.5), -1, 1)
    opening_x = _uniform(x, -0.6, 0.6)
    tone = torch.where(above & _bernoulli(x, 0.7), _uniform(x, 0.3, 1.8), 1)

    def shoe(x: Tensor, y: Tensor) -> Tensor:
        sampled = _grid_sample(pixels, x, center + torch.where(above, fold * y.abs(), y))
        opening = ((x - opening_x) / 0.35) ** 2 + (y / height / 0.3) ** 2 < 1
        return torch.where(opening[:, None], sampled * tone[:, None], sampled).clamp(max=1)

    pairs = shoes & _bernoulli(x, 0.75)
    dy = torch.where(pairs, height / 2 * _uniform(x, 0.7, 1.2), 0)
    dx = torch.where(pairs, _uniform(x, -0.2, 0.2), 0)
    first = shoe(x + dx, y + dy)
    # From above, left and right shoe are mirror images; from the side, they look the same.
    second = shoe(x - dx, torch.where(above | _bernoulli(x, 0.5), dy - y, y - dy))
    return torch.where((pairs & (second[:, 0] > FOREGROUND_THRESHOLD))[:, None], second, first)


def _random_warp(pixels: Tensor, shoes: Tensor, sleeved: Tensor, trousers: Tensor) -> Tensor:
    """Rotates and bends images, changes their aspect ratio, and spreads sleeves and legs."""
    x, y = _coordinates(pixels, CANVAS_SIZE, CANVAS_EXTENT)
    # Shrunk now and scaled back later, a garment loses its details, but keeps its outline.
    shrink = torch.where(shoes, _uniform(x, 1.2, 2.2), _uniform(x, 1.0, 1.6))
    x, y = (x + 0.06 * _random_field(x, 6)) * shrink, (y + 0.06 * _random_field(y, 6)) * shrink
    # Most garments lie nearly upright. Shoes point in any direction, mostly along an axis.
    quarters = torch.randint(0, 4, (len(x), 1, 1), device=x.device) * (math.pi / 2)
    angle = 0.1 * torch.randn(len(x), 1, 1, device=x.device)
    angle = torch.where(shoes, 3 * angle + quarters, angle)
    x, y = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    x = x / _uniform(x, 0.9, 1.1)
    x = x + y * _uniform(x, -0.1, 0.1)
    # Beyond `body` from the vertical axis, all moves outwards, most at the bottom; a gap opens.
    body = torch.where(trousers, 0, _uniform(x, 0.4, 0.65))
    slope = torch.where(trousers, _uniform(x, 0, 0.25), _uniform(x, 0, 0.6))
    start = torch.where(trousers, _uniform(x, -0.6, -0.2), _uniform(x, -0.8, -0.4))
    spread = (slope * (y - start)).clamp(min=0)
    spread = torch.where((trousers | sleeved) & _bernoulli(x, 0.4), spread, 0)
    side, outside = x.abs(), 9.0  # zero padding
    inner = torch.where(side > body, outside, side)
    side = torch.where(side > body + spread, side - spread, inner)
    return _grid_sample(pixels, side * x.sign() / CANVAS_EXTENT, y / CANVAS_EXTENT)


def _random_occlusion(pixels: Tensor) -> Tensor:
    """Removes one side of some images along a ragged line, as a wrong segmentation does."""
    x, y = _coordinates(pixels, CANVAS_SIZE, CANVAS_EXTENT)
    angle = _uniform(x, 0, 2 * math.pi)
    line = _uniform(x, 0.35, 1.0) + 0.1 * _random_field(x, 8)
    kept = (x * angle.cos() + y * angle.sin() < line) | ~_bernoulli(x, 0.1)
    return pixels * kept[:, None]


def _crop_and_center(pixels: Tensor) -> Tensor:
    """Crops to the foreground and centers it in 28x28 pixels, its longer side filling them."""
    left, right, top, bottom = _bounding_box(pixels)
    scale = torch.maximum(right - left, bottom - top) / 2
    x, y = _coordinates(pixels, 28, 27 / 28)
    return _grid_sample(pixels, x * scale + (left + right) / 2, y * scale + (top + bottom) / 2)


def _color_jitter(pixels: Tensor) -> Tensor:
    """Changes brightness and contrast of the foreground; adds shading, texture and noise."""
    mask = (pixels > FOREGROUND_THRESHOLD).float()
    # Edge pixels mix foreground and background. Their color is that of the interior nearby.
    interior = 1 - F.max_pool2d(1 - mask, 3, stride=1, padding=1)
    fraction = F.avg_pool2d(interior, 5, stride=1, padding=2)
    nearby = F.avg_pool2d(pixels * interior, 5, stride=1, padding=2) / fraction.clamp(min=0.04)
    edge = (mask > interior) & (fraction > 0.04)
    opacity = torch.where(edge, (pixels / nearby.clamp(min=0.04)).clamp(0.3, 1), mask)
    color = torch.where(edge, nearby, pixels)
    area = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (color * mask).sum(dim=(2, 3), keepdim=True) / area
    contrast = _uniform(pixels, 0.5, 1.6)
    contrast = torch.where(_bernoulli(pixels, 0.25), -contrast, contrast)
    color = mean + _uniform(pixels, -0.3, 0.3) + contrast * (color - mean)
    x, y = (values[:, None] for values in _coordinates(pixels, 28, 1.0))
    color = color + x * _uniform(pixels, -0.2, 0.2) + y * _uniform(pixels, -0.2, 0.2)
    color = color + _uniform(pixels, 0.0, 0.12) * _random_field(pixels, 7)
    color = color + _uniform(pixels, 0.0, 0.06) * torch.randn_like(pixels)
    return _add_texture(color, x, y).clamp(0.08, 1) * opacity


def _add_texture(color: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Adds stripes or checks, flowers, two tones, or a patch to half of the images."""
    angle = _uniform(x, 0, math.pi)
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    frequency = _uniform(x, 5, 30)
    stripes = (frequency * u).sin() + torch.where(_bernoulli(x, 0.5), (frequency * v).sin(), 0)
    flowers = _random_field(x, 14)
    halves = (u - _uniform(x, -0.4, 0.4)).sign()
    sides = ((x - _uniform(x, -0.3, 0.3)) / 0.4).abs(), ((y - _uniform(x, -0.5, 0.5)) / 0.3).abs()
    patch = (torch.maximum(*sides) < _uniform(x, 0.4, 1.2)).float() * _uniform(x, -2, 2)
    choice = 8 * torch.rand_like(x[:, :1, :1, :1])  # 4 to 8: no texture
    texture = torch.zeros_like(x)
    for index, pattern in enumerate((stripes, flowers, halves, patch)):
        texture = torch.where((choice >= index) & (choice < index + 1), pattern, texture)
    return color + _uniform(x, 0.05, 0.3) * texture
