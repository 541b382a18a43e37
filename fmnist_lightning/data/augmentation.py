"""Random changes to training pictures, a whole batch at once. Plain PyTorch."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RandomAugmentation(nn.Module):
    """Mirrors, shifts and erases pictures, each of a batch in a way of its own.

    It works on uint8, on the device of the pictures, and draws from the generator of that device,
    so ``seed_everything`` makes it repeatable. In evaluation it changes nothing.

    Args:
        hflip_prob: Probability of a horizontal flip, 0 to 1.
        max_translation: Moves by up to so many pixels along each axis; what comes in is black.
        erase_prob: How likely a rectangle is filled with noise, 0 to 1 (random erasing,
            https://arxiv.org/abs/1708.04896). It takes 2 to 30 % of the picture, and its sides are
            at most 10 to 3.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self, hflip_prob: float = 0.5, max_translation: int = 1, erase_prob: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= hflip_prob <= 1:
            raise ValueError(f"hflip_prob must be a probability, 0 to 1, not {hflip_prob}")
        if not 0 <= max_translation < 28:
            raise ValueError(f"max_translation must be 0 to 27 pixels, not {max_translation}")
        if not 0 <= erase_prob <= 1:
            raise ValueError(f"erase_prob must be a probability, 0 to 1, not {erase_prob}")
        self.hflip_prob = hflip_prob
        self.max_translation = max_translation
        self.erase_prob = erase_prob

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Changes a batch.

        Args:
            images: Pictures, uint8, shape (N, H, W).
            labels: Not used: all classes are changed alike.

        Returns:
            New pictures of the same type and shape; in evaluation, ``images`` itself.
        """
        if not self.training:
            return images
        if self.hflip_prob or self.max_translation:
            images = self._flip_and_translate(images)
        return self._random_erasing(images) if self.erase_prob else images

    def _flip_and_translate(self, images: Tensor) -> Tensor:
        """Mirrors and shifts in one indexed read."""
        num, height, width = images.shape
        device = images.device
        rows, columns = (  # which to take, (N, H) and (N, W)
            torch.arange(size, device=device)
            + torch.randint(0, 2 * self.max_translation + 1, (num, 1), device=device)
            for size in (height, width)
        )
        if self.hflip_prob:
            mirrored = torch.rand(num, 1, device=device) < self.hflip_prob
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(images, [self.max_translation] * 4)
        return padded[
            torch.arange(num, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]
        ]

    def _random_erasing(self, images: Tensor) -> Tensor:
        """Fills rectangles with noise."""
        num, height, width = images.shape
        device = images.device
        chance, area, aspect, top, left = torch.rand(5, num, 1, device=device)
        area = height * width * (0.02 + (0.3 - 0.02) * area)
        aspect = torch.exp((2 * aspect - 1) * math.log(10 / 3))
        high = (area * aspect).sqrt().round().clamp(max=height)
        wide = (area / aspect).sqrt().round().clamp(max=width)
        top, left = (top * (height - high + 1)).floor(), (left * (width - wide + 1)).floor()
        rows = torch.arange(height, device=device)  # (H,)
        columns = torch.arange(width, device=device)  # (W,)
        in_rows = (rows >= top) & (rows < top + high) & (chance < self.erase_prob)  # (N, H)
        in_columns = (columns >= left) & (columns < left + wide)  # (N, W)
        inside = in_rows[:, :, None] & in_columns[:, None, :]  # (N, H, W)
        noise = torch.randint(0, 256, images.shape, device=device, dtype=images.dtype)
        return torch.where(inside, noise, images)
