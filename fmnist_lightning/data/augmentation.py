"""Random augmentation of whole batches, on the device that they are on. Plain PyTorch."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RandomAugmentation(nn.Module):
    """Randomly flips, translates and erases each image of a batch.

    Args:
        hflip_prob: Probability of a horizontal flip, 0 to 1.
        max_translation: Largest translation along each axis in pixels, 0 to 27, zero padding.
        erase_prob: Probability of random erasing (https://arxiv.org/abs/1708.04896), 0 to 1.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self, hflip_prob: float = 0.5, max_translation: int = 1, erase_prob: float = 0.0
    ) -> None:
        super().__init__()
        for name, prob in (("hflip_prob", hflip_prob), ("erase_prob", erase_prob)):
            if not 0 <= prob <= 1:
                raise ValueError(f"{name} must be a probability, 0 to 1, not {prob}")
        if not 0 <= max_translation < 28:
            raise ValueError(f"max_translation must be 0 to 27 pixels, not {max_translation}")
        self.hflip_prob = hflip_prob
        self.max_translation = max_translation
        self.erase_prob = erase_prob

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Augments images, uint8, (N, H, W), in training mode. ``labels`` are not used here."""
        if self.training and (self.hflip_prob or self.max_translation):
            images = random_flip_translate(images, self.hflip_prob, self.max_translation)
        if self.training and self.erase_prob:
            images = random_erasing(images, self.erase_prob)
        return images


def tta_views(images: Tensor, hflip: bool, translation: bool) -> list[Tensor]:
    """What evaluation averages over: images (N, H, W), their translations by a pixel, and flips."""
    views = [images]
    if translation:
        height, width = images.shape[1:]
        padded = F.pad(images, [1] * 4)
        offsets = ((0, 1), (2, 1), (1, 0), (1, 2))
        views += [padded[:, row : row + height, col : col + width] for row, col in offsets]
    return views + [view.flip(-1) for view in views if hflip]


def random_flip_translate(images: Tensor, hflip_prob: float, max_translation: int) -> Tensor:
    """Flips and translates images (N, H, W) in one indexed read of the padded images."""
    (num, height, width), device = images.shape, images.device
    top = torch.randint(2 * max_translation + 1, (num, 1), device=device)
    left = torch.randint(2 * max_translation + 1, (num, 1), device=device)
    rows = top + torch.arange(height, device=device)  # to read, (N, H)
    columns = left + torch.arange(width, device=device)  # (N, W)
    if hflip_prob:
        flipped = torch.rand(num, 1, device=device) < hflip_prob
        columns = torch.where(flipped, columns.flip(1), columns)
    index = torch.arange(num, device=device)[:, None, None]  # (N, 1, 1)
    return F.pad(images, [max_translation] * 4)[index, rows[:, :, None], columns[:, None, :]]


def random_erasing(images: Tensor, erase_prob: float) -> Tensor:
    """Fills a rectangle of 2 to 30 % of an image (N, H, W), sides at most 10:3, with noise."""
    (num, height, width), device = images.shape, images.device
    p, area, aspect, top, left = torch.rand(5, num, 1, device=device)  # (N, 1) each
    area = height * width * (0.02 + (0.3 - 0.02) * area)
    aspect = torch.exp((2 * aspect - 1) * math.log(10 / 3))
    box_height = (area * aspect).sqrt().round().clamp(max=height)
    box_width = (area / aspect).sqrt().round().clamp(max=width)
    top = (top * (height - box_height + 1)).floor()
    left = (left * (width - box_width + 1)).floor()
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    in_rows = (rows >= top) & (rows < top + box_height) & (p < erase_prob)  # (N, H)
    in_columns = (columns >= left) & (columns < left + box_width)  # (N, W)
    noise = torch.randint(0, 256, images.shape, device=device, dtype=images.dtype)
    return torch.where(in_rows[:, :, None] & in_columns[:, None, :], noise, images)
