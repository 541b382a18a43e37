"""Sheets of captioned pictures."""

import functools
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SCALE = 3  # a pixel of the data set becomes a square of 3x3
GAP = 8  # pixels between pictures
CAPTION = 22  # pixels of height for a caption
BACKGROUND, INK = 24, 230  # dark, like the pictures' own background, so that it suits either theme


def make_image_grid(images: Tensor, captions: Sequence[str], columns: int = 8) -> Tensor:
    """Lays pictures out in a grid, each with text under it.

    Args:
        images: Pictures, uint8, shape (N, 28, 28).
        captions: N texts, all of as many lines.
        columns: Pictures in a row.

    Returns:
        The grid, uint8, shape (height, width).
    """
    lines = captions[0].count("\n") + 1
    side = images.shape[-1] * SCALE
    # A class with its probability is wider than a picture.
    wide = any("%" in caption for caption in captions)
    cell_width, cell_height = side + GAP * (8 if wide else 1), side + CAPTION * lines + GAP
    rows = -(-len(images) // columns)
    sheet = Image.new("L", (columns * cell_width + GAP, rows * cell_height + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = load_font(16)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(index, columns)
        middle, top = GAP / 2 + (column + 0.5) * cell_width, GAP + row * cell_height
        sheet.paste(upscale_nearest(image, side), (round(middle - side / 2), top))
        text = (middle, top + side + 3)
        draw.multiline_text(text, caption, fill=INK, font=font, anchor="ma", align="center")
    return to_tensor(sheet)


def make_feature_grid(rows: Sequence[tuple[str, Tensor]], most: int = 16) -> Tensor:
    """Lays feature maps or filters out, a row for each layer with its name above it.

    Args:
        rows: Names, and values, float, shape (C, H, W) each; a row goes from black at its lowest
            value to white at its highest.
        most: How many of a row are shown.

    Returns:
        The sheet, uint8, shape (height, width).
    """
    side = 2 * 28
    height = side + CAPTION + GAP
    width = max(6, min(most, max(len(values) for _, values in rows))) * (side + GAP) + GAP
    sheet = Image.new("L", (width, len(rows) * height + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = load_font(15)
    for index, (name, values) in enumerate(rows):
        top = GAP + index * height
        num, high, wide = values.shape
        shown = f", the first {most}" if num > most else ""
        draw.text((GAP, top), f"{name}: {num} of {high}x{wide}{shown}", fill=INK, font=font)
        low, span = values.min(), (values.max() - values.min()).clamp(min=1e-12)
        for column, level in enumerate(((values[:most] - low) / span * 255).to(torch.uint8)):
            sheet.paste(upscale_nearest(level, side), (GAP + column * (side + GAP), top + CAPTION))
    return to_tensor(sheet)


def upscale_nearest(image: Tensor, side: int) -> Image.Image:
    """A picture, uint8, shape (H, W), as a square of so many pixels a side, each of them sharp."""
    return Image.fromarray(image.cpu().numpy()).resize((side, side), Image.Resampling.NEAREST)


def to_tensor(sheet: Image.Image) -> Tensor:
    """The pixels of a picture, uint8, shape (height, width), or (height, width, 3) in colour."""
    pixels = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8)
    return pixels.view(sheet.height, sheet.width, *([3] if sheet.mode == "RGB" else []))


@functools.cache
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which takes longer to load than to draw with."""
    return ImageFont.load_default(size)
