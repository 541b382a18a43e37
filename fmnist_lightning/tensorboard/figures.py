"""Charts of how well a classifier does. Plain Pillow: drawn in milliseconds, within training."""

from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.tensorboard.grids import BACKGROUND, load_font, to_tensor, upscale_nearest

PAPER, INK, DIM, FAINT = (BACKGROUND,) * 3, (230,) * 3, (160,) * 3, (92,) * 3
RIGHT, WRONG = (70, 172, 155), (226, 130, 66)  # told apart by all kinds of colour vision
LINES = (RIGHT, WRONG, (120, 160, 240), (214, 196, 90), (200, 130, 200), (150, 150, 150))
NUM_BINS = 15  # as the calibration error has
PER_CENT = [(each, f"{each:.0%}") for each in (0, 0.2, 0.4, 0.6, 0.8, 1)]  # ticks
Box = tuple[int, int, int, int]  # left, top, right, bottom


def plot_confusion_matrix(confusion: Tensor, title: str) -> Tensor:
    """Draws a confusion matrix, in per cent of each label's pictures.

    Args:
        confusion: Counts, int64, shape (10, 10): a row for each label, a column for each answer.
        title: What stands above it.

    Returns:
        The chart, uint8, shape (height, width, 3).
    """
    left, top, width, height = 120, 86, 78, 40
    size = len(CLASSES)
    sheet, draw = _paper(left + size * width + 16, top + size * height + 16, title)
    _write(draw, (left, 50), "answer", fill=DIM)
    _write(draw, (left - 12, 76), "label", anchor="rs", fill=DIM)
    shares = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    for row, name in enumerate(CLASSES):
        y = top + row * height
        _write(draw, (left - 12, y + height // 2), name, anchor="rm")
        _write(draw, (left + row * width + width // 2, 76), name, anchor="ms", size=14)
        for column in range(size):
            share, x = float(shares[row, column]), left + column * width
            # The root, so that rare mistakes can be seen too; not all of it, for the figures.
            colour = _mix(PAPER, RIGHT if row == column else WRONG, 0.75 * share**0.5)
            draw.rectangle((x, y, x + width - 2, y + height - 2), fill=colour)
            if share >= 0.0005:
                centre = (x + width // 2, y + height // 2)
                _write(draw, centre, f"{100 * share:.1f}", anchor="mm")
    return to_tensor(sheet)


def plot_reliability(confidences: Tensor, right: Tensor, ece: float, title: str) -> Tensor:
    """Draws how often answers are right, by how sure they are.

    Args:
        confidences: The probability of each answer, shape (N,).
        right: Whether it is right, shape (N,).
        ece: Expected calibration error, 0 to 1.
        title: What stands above it.

    Returns:
        The chart, uint8, shape (height, width, 3).
    """
    bins = torch.bucketize(confidences, torch.linspace(0, 1, NUM_BINS + 1)[1:-1])
    counts = torch.bincount(bins, minlength=NUM_BINS)
    hits = torch.bincount(bins, weights=right.float(), minlength=NUM_BINS) / counts.clamp(min=1)
    sheet, draw = _paper(560, 566, title)
    upper, lower = (70, 56, 540, 410), (70, 430, 540, 500)
    _axes(draw, upper, [], PER_CENT)
    _axes(draw, lower, PER_CENT, [])
    for index, (hit, part) in enumerate(
        zip(hits.tolist(), (counts / counts.max().clamp(min=1)).tolist(), strict=True)
    ):
        for box, value, colour in ((upper, hit, RIGHT), (lower, part, FAINT)):
            x, y = _place(box, index / NUM_BINS, value)
            far, ground = _place(box, (index + 1) / NUM_BINS, 0)
            if value:
                draw.rectangle((x + 1, min(y, ground - 1), far - 1, ground - 1), fill=colour)
    draw.line((*_place(upper, 0, 0), *_place(upper, 1, 1)), fill=INK, width=1)
    _write(draw, (84, 72), "share of right answers; on the line, as sure as right")
    _write(draw, (84, 94), f"calibration error {ece:.2%}")
    _write(draw, (84, 444), "number of pictures")
    _write(draw, (305, 546), "probability of the answer", anchor="ms")
    return to_tensor(sheet)


def plot_prediction(image: Tensor, probabilities: Tensor, label: int, title: str) -> Tensor:
    """Draws a picture beside the probabilities of the classes.

    Args:
        image: The picture, uint8, shape (28, 28).
        probabilities: Shape (10,).
        label: The class that is right.
        title: What stands above it.

    Returns:
        The chart, uint8, shape (height, width, 3).
    """
    sheet, draw = _paper(720, 356, title)
    sheet.paste(upscale_nearest(image, 280).convert("RGB"), (20, 56))
    answer = int(probabilities.argmax())
    for index, (name, value) in enumerate(zip(CLASSES, probabilities.tolist(), strict=True)):
        y = 56 + 28 * index
        colour = RIGHT if index == label else WRONG if index == answer else FAINT
        _write(draw, (424, y + 13), name, anchor="rm")
        draw.rectangle((434, y + 3, 434 + round(200 * value), y + 23), fill=colour)
        _write(draw, (442 + round(200 * value), y + 13), f"{value:.1%}", anchor="lm")
    return to_tensor(sheet)


def plot_lines(
    lines: Mapping[str, Sequence[float]], title: str, x_label: str, y_label: str
) -> Tensor:
    """Draws lines over 0, 1, 2 and so on.

    Args:
        lines: For each name, its values, 0 to 1.
        title: What stands above it.
        x_label: What is counted.
        y_label: What the values are.

    Returns:
        The chart, uint8, shape (height, width, 3).
    """
    last = max(len(values) for values in lines.values()) - 1
    box = (70, 80, 700, 430)
    sheet, draw = _paper(720, 490 + 26 * len(lines), title)
    _axes(
        draw,
        box,
        [(each / max(last, 1), str(each)) for each in range(last + 1)],
        PER_CENT,
    )
    _write(draw, (70, 68), y_label)
    _write(draw, (385, 470), x_label, anchor="ms")
    for index, (name, values) in enumerate(lines.items()):
        colour = LINES[index % len(LINES)]
        points = [_place(box, at / max(last, 1), value) for at, value in enumerate(values)]
        draw.line(points, fill=colour, width=3, joint="curve")
        y = 500 + 26 * index
        for x, y_ in [*points, (82, y)]:
            draw.ellipse((x - 4, y_ - 4, x + 4, y_ + 4), fill=colour)
        _write(draw, (96, y), name, anchor="lm")
    return to_tensor(sheet)


def _paper(width: int, height: int, title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty sheet with a title."""
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (20, 30), title, anchor="ls", size=19)
    return sheet, draw


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    anchor: str = "ls",
    fill: tuple[int, ...] = INK,
    size: int = 15,
) -> None:
    draw.text(at, text, fill=fill, font=load_font(size), anchor=anchor)


def _axes(
    draw: ImageDraw.ImageDraw,
    box: Box,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
) -> None:
    """The frame of a chart: ticks are places, 0 to 1, with their names."""
    left, _, right, bottom = box
    for value, name in y_ticks:
        _, y = _place(box, 0, value)
        draw.line((left, y, right, y), fill=_mix(PAPER, FAINT, 0.5))
        _write(draw, (left - 10, y), name, anchor="rm", size=14)
    for value, name in x_ticks:
        x, _ = _place(box, value, 0)
        _write(draw, (x, bottom + 8), name, anchor="ma", size=14)
    draw.line((left, bottom, right, bottom), fill=FAINT)


def _place(box: Box, x: float, y: float) -> tuple[int, int]:
    """Pixel of a point, 0 to 1 each, y upwards."""
    left, top, right, bottom = box
    return round(left + x * (right - left)), round(bottom - y * (bottom - top))


def _mix(ground: tuple[int, ...], colour: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(round(a + share * (b - a)) for a, b in zip(ground, colour, strict=True))
