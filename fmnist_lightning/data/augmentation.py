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
        flip: Mirrors a picture, left to right, with a probability of one half.
        shift: Moves by up to so many pixels along each axis; what comes in is black.
        erase: How likely a rectangle is filled with noise, 0 to 1 (random erasing,
            https://arxiv.org/abs/1708.04896). It takes 2 to 30 % of the picture, and its sides are
            at most 10 to 3.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, flip: bool = True, shift: int = 1, erase: float = 0.0) -> None:
        super().__init__()
        if not 0 <= shift < 28:
            raise ValueError(f"shift must be 0 to 27 pixels, not {shift}")
        if not 0 <= erase <= 1:
            raise ValueError(f"erase must be a probability, 0 to 1, not {erase}")
        self.flip = flip
        self.shift = shift
        self.erase = erase

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
        if self.flip or self.shift:
            images = self._move(images)
        return self._erase(images) if self.erase else images

    def _move(self, images: Tensor) -> Tensor:
        """Mirrors and shifts in one indexed read."""
        num, height, width = images.shape
        device = images.device
        rows, columns = (  # which to take, (N, H) and (N, W)
            torch.arange(size, device=device)
            + torch.randint(0, 2 * self.shift + 1, (num, 1), device=device)
            for size in (height, width)
        )
        if self.flip:
            mirrored = torch.rand(num, 1, device=device) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(images, [self.shift] * 4)
        return padded[
            torch.arange(num, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]
        ]

    def _erase(self, images: Tensor) -> Tensor:
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
        in_rows = (rows >= top) & (rows < top + high) & (chance < self.erase)  # (N, H)
        in_columns = (columns >= left) & (columns < left + wide)  # (N, W)
        inside = in_rows[:, :, None] & in_columns[:, None, :]  # (N, H, W)
        noise = torch.randint(0, 256, images.shape, device=device, dtype=images.dtype)
        return torch.where(inside, noise, images)
