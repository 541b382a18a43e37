"""Grids of captioned pictures."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SCALE = 3  # a pixel of the data set becomes a square of 3x3
GAP = 8  # pixels between pictures
CAPTION = 22  # pixels of height for a caption
BACKGROUND, INK = 24, 230  # dark, like the pictures' own background, so that it suits either theme


def captioned_grid(images: Tensor, captions: Sequence[str], columns: int = 8) -> Tensor:
    """Lays pictures out in a grid, each with a line of text under it.

    Args:
        images: Pictures, uint8, shape (N, 28, 28).
        captions: N lines of text.
        columns: Pictures in a row.

    Returns:
        The grid, uint8, shape (height, width).
    """
    side = images.shape[-1] * SCALE
    cell_width, cell_height = side + GAP, side + CAPTION + GAP
    rows = -(-len(images) // columns)
    sheet = Image.new("L", (columns * cell_width + GAP, rows * cell_height + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(index, columns)
        left, top = GAP + column * cell_width, GAP + row * cell_height
        picture = Image.fromarray(image.cpu().numpy()).resize(
            (side, side), Image.Resampling.NEAREST
        )
        sheet.paste(picture, (left, top))
        draw.text((left + side / 2, top + side + 3), caption, fill=INK, font=font, anchor="ma")
    return torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8).view(
        sheet.height, sheet.width
    )
