"""All charts, in one style: each function returns a matplotlib figure, made without pyplot.

Figures are small, 3.6 inches wide, so that their text is legible in TensorBoard's thumbnails too.
Import this module inside functions only: matplotlib takes long to import.
"""

import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib import colormaps, font_manager, style
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

WIDTH, DPI = 3.6, 220  # inches, pixels per inch
SMALL, MEDIUM, LARGE = 7.5, 8.5, 9.5  # font sizes, points
NUM_BINS = 15  # of the reliability diagram, the same as of the calibration error
CORRECT, INCORRECT = "#1f6fb4", "#d95f02"  # distinct in all kinds of color vision
COLORS = {True: CORRECT, False: INCORRECT, None: "black"}
LEGEND = {True: "correct", False: "mistake: the folder names another class"}
MUTED, GRID = "#8c8c8c", "#dcdcdc"
PERCENT = PercentFormatter(1, decimals=0, symbol=" %")
# Matplotlib comes with the first one; the others have characters that it lacks.
FONTS = ("DejaVu Sans", "Noto Sans", "Noto Sans CJK JP", "Hiragino Sans", "Microsoft YaHei")
STYLE: Any = {
    "font.family": [name for name in FONTS if name in font_manager.get_font_names()],
    "font.size": MEDIUM,
    "text.parse_math": False,  # the name of a class may contain a dollar sign
    "figure.titlesize": LARGE,
    "figure.titleweight": "bold",
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.size": 0,
    "legend.frameon": False,
}
styled = style.context(STYLE, after_reset=True)  # whatever matplotlib's settings are
warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it is drawn as a box


def _shorten(text: str, max_length: int) -> str:
    half = max_length // 2
    return text if len(text) <= max_length else f"{text[: max_length - half - 1]}…{text[-half:]}"


def new_figure(height: float, title: str, width: float = WIDTH) -> Figure:
    """An empty figure, sizes in inches, with its title at the top left."""
    lines = textwrap.wrap(_shorten(title, 114), int(38 * width / WIDTH))
    height += 1.2 * LARGE / 72 * (len(lines) - 1)
    figure = Figure((width, height), dpi=DPI, layout="constrained")
    figure.suptitle("\n".join(lines), x=0.02, ha="left")
    return figure


@styled
def plot_confusion_matrix(confusion: Tensor, classes: Sequence[str], title: str) -> Figure:
    """Draws counts, int64, (C, C), a row for each label, in % of the images of each label."""
    num = len(classes)
    percent = 100 * confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    figure = new_figure(WIDTH, title)
    axes = figure.add_subplot(aspect="equal", frame_on=False)
    diagonal = torch.eye(num, dtype=torch.bool)
    for part, colormap in ((diagonal, "Blues"), (~diagonal, "Oranges")):
        # The square root makes rare mistakes visible.
        shown = percent.masked_fill(~part | (percent == 0), torch.nan).sqrt().numpy()
        cells = axes.pcolormesh(range(num), range(num), shown, cmap=colormap, vmin=0, vmax=13)
        cells.set(edgecolors=GRID, linewidth=0.6)
    if num <= 12:  # more would be too small to read
        for row, column in (percent > 0.5).nonzero().tolist():
            value = float(percent[row, column])
            color = "white" if value > 50 else "black"
            axes.text(column, row, f"{value:.0f}", color=color, ha="center", va="center")
    names, size = [_shorten(name, 14) for name in classes], min(MEDIUM, 180 / num)
    axes.set_xticks(range(num), names, rotation=90, fontsize=size)
    axes.set_yticks(range(num), names, fontsize=size)
    axes.set(xlabel="prediction", ylabel="label", ylim=(num - 0.5, -0.5))
    return figure


@styled
def plot_reliability(confidences: Tensor, correct: Tensor, ece: float, title: str) -> Figure:
    """Draws the accuracy of predictions by their confidence; ``correct`` is bool, both are (N,)."""
    edges = torch.linspace(0, 1, NUM_BINS + 1)
    bins = torch.bucketize(confidences.float(), edges[1:-1], right=True)
    counts = torch.bincount(bins, minlength=NUM_BINS)
    hits = torch.bincount(bins, weights=correct.float(), minlength=NUM_BINS)
    figure = new_figure(WIDTH, title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    for axes, values, color in (
        (upper, hits / counts.clamp(min=1), CORRECT),
        (lower, counts / max(1, len(bins)), MUTED),
    ):
        x, width = edges[:-1].tolist(), 1 / NUM_BINS
        axes.bar(x, values.tolist(), width, align="edge", color=color, edgecolor="white")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(axis="y")
    upper.plot([0, 1], [0, 1], "--", color="black", linewidth=1)
    upper.text(0.02, 0.97, f"calibration error {100 * ece:.1f} %", va="top", weight="bold")
    upper.set_title("accuracy vs confidence (diagonal = calibrated)", loc="left", fontsize=SMALL)
    upper.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="accuracy")
    lower.set(xlabel="confidence", ylabel="images")
    lower.xaxis.set_major_formatter(PERCENT)
    return figure


@styled
def plot_image_grid(
    images: Tensor,
    captions: Sequence[str],
    title: str,
    columns: int = 5,
    width: float = WIDTH,
    are_correct: Sequence[bool | None] = (),
) -> Figure:
    """Draws images, uint8, (N, H, W) or (N, H, W, 3), above their captions; ``width`` in inches.

    Where it is known whether predictions are correct, the captions say it by their color.
    """
    rows = -(-len(images) // columns)
    image_height = min(0.9 * width / columns * images.shape[1] / images.shape[2], 1)  # inches
    lines = max(len(caption.splitlines()) for caption in captions)
    figure = new_figure(0.3 + rows * (image_height + 0.08 + 0.14 * lines), title, width)
    blank = {"frame_on": False, "xticks": [], "yticks": []}
    all_axes = figure.subplots(rows, columns, squeeze=False, subplot_kw=blank)
    max_length = int(60 * width / WIDTH / columns)
    colors = [COLORS[value] for value in are_correct or [None] * len(images)]
    for axes, image, caption, color in zip(all_axes.flat, images, captions, colors, strict=False):
        axes.imshow(image.numpy(), "gray", vmin=0, vmax=255)
        text = "\n".join(_shorten(line, max_length) for line in caption.splitlines())
        axes.set_title(text, y=-0.04, pad=0, va="top", fontsize=SMALL, color=color)
    if any(value is not None for value in are_correct):
        handles = [Patch(color=COLORS[key], label=text) for key, text in LEGEND.items()]
        figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=SMALL)
    return figure


@styled
def plot_curves(
    epochs: Sequence[int], values: Sequence[Sequence[float]], names: Sequence[str], title: str
) -> Figure:
    """Draws a curve in its own color for each name, from values for each epoch, 0 to 1."""
    figure = new_figure(max(2.6, 0.5 + 0.16 * len(names)), title)
    axes = figure.add_subplot()
    colors = colormaps["tab10" if len(names) <= 10 else "turbo"].resampled(max(10, len(names)))
    axes.set_prop_cycle(color=[colors(index) for index in range(len(names))])
    axes.plot(epochs, values, marker=".", linewidth=1)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch")
    axes.grid(axis="y")
    figure.legend(
        [_shorten(name, 14) for name in names], loc="outside right center", fontsize=SMALL
    )
    return figure


@styled
def plot_feature_maps(
    layers: Sequence[tuple[str, Tensor]], title: str, max_maps: int = 8
) -> Figure:
    """Draws maps of each layer, float, (C, H, W), its lowest value black, its highest white."""
    columns, side, gap = 8, 56, 4  # sizes in pixels
    heights = [-(-min(len(values), max_maps) // columns) for _, values in layers]
    figure = new_figure(0.3 + 0.22 * len(layers) + 0.48 * sum(heights), title)
    all_axes = figure.subplots(len(layers), height_ratios=heights, squeeze=False)[:, 0]
    for axes, (name, values) in zip(all_axes, layers, strict=True):
        low, high = values.min(), values.max()
        levels = (values[:max_maps] - low) / (high - low).clamp(min=1e-12)
        tiles = F.interpolate(levels.unsqueeze(1).cpu(), (side, side))
        tiles = F.pad(tiles, (gap, gap, gap, gap), value=1)
        grid = make_grid(tiles, columns, padding=0, pad_value=1)[0]
        axes.imshow(grid.numpy(), "gray", vmin=0, vmax=1)
        axes.set(xlim=(0, columns * (side + 2 * gap)), anchor="W")
        axes.set_axis_off()
        num, height, width = values.shape
        shown = f", first {max_maps} shown" if num > max_maps else ""
        text = _shorten(f"{name}: {num} of {height}x{width}{shown}", 60)
        axes.set_title(text, loc="left", fontsize=SMALL, pad=1)
    return figure


@styled
def plot_prediction(
    image: Tensor, probabilities: Tensor, label: int, classes: Sequence[str], title: str
) -> Figure:
    """Draws an image, uint8, (H, W), and the probability of each class, (C,); label -1: unknown."""
    num = len(classes)
    figure = new_figure(max(2.2, 0.18 * num), title)
    left, right = figure.subplots(1, 2, subplot_kw={"frame_on": False})
    left.imshow(image.numpy(), "gray", vmin=0, vmax=255)
    left.set_axis_off()
    colors = [MUTED] * num
    if label >= 0:
        colors[int(probabilities.argmax())], colors[label] = INCORRECT, CORRECT
    bars = right.barh(range(num), probabilities.tolist(), color=colors)
    percent = [f"{100 * value:.1f} %" for value in probabilities.tolist()]
    right.bar_label(bars, percent, padding=2, fontsize=SMALL)
    right.set_yticks(range(num), [_shorten(name, 14) for name in classes])
    right.set(xlim=(0, 1.35), ylim=(num - 0.5, -0.5), xticks=[])
    return figure
