import io
import runpy
import warnings

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from fmnist_lightning import figures
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.figures import (
    CORRECT,
    INCORRECT,
    plot_confusion_matrix,
    plot_curves,
    plot_feature_maps,
    plot_image_grid,
    plot_prediction,
    plot_reliability,
)

IMAGES = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)
PROBABILITIES = torch.tensor([0.6, *[0.4 / 9] * 9])
CHARTS = {
    "confusion": lambda names: plot_confusion_matrix(
        torch.randint(0, 9, (10, 10)), names, names[0]
    ),
    "reliability": lambda names: plot_reliability(
        torch.rand(50), torch.rand(50) < 0.5, 0.1, names[0]
    ),
    "grid": lambda names: plot_image_grid(
        IMAGES, [f"predicted {name} 99.9 %\nlabel {name}" for name in names[-4:]], names[0], 2
    ),
    "curves": lambda names: plot_curves([2, 4], torch.rand(2, 10).tolist(), names, names[0]),
    "maps": lambda names: plot_feature_maps([(names[0], torch.randn(9, 5, 5))], names[0]),
    "prediction": lambda names: plot_prediction(IMAGES[0], PROBABILITIES, 1, names, names[0]),
}


def pixels(figure):
    """RGB, uint8, shape (height, width, 3)."""
    stream = io.BytesIO()
    figure.savefig(stream)
    return torch.from_numpy(np.array(Image.open(stream).convert("RGB")))


def count(figure, color):
    """Pixels of exactly this color."""
    rgb = torch.tensor([round(255 * part) for part in matplotlib.colors.to_rgb(color)])
    return int((pixels(figure) == rgb).all(dim=2).sum())


def texts(figure):
    """All visible texts."""
    pixels(figure)
    artists = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
    return [text for text in artists if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize(
    "names",
    [
        CLASSES,
        tuple(f"Süß {index} $\\q$ 靴\ue000" for index in range(10)),
        ("a very long name of a class",) * 10,
    ],
    ids=["fashion", "non-ascii", "long"],
)
def test_text_is_inside_the_figure_and_large_enough(name, names):
    figure = CHARTS[name](names)
    assert pixels(figure).shape[1] == 792
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) > -0.01
    assert box.x1 < width + 0.01
    assert box.y1 < height + 0.01
    for text in texts(figure):
        assert float(text.get_fontsize()) / 72 / width * 300 > 7.5  # pixels in a thumbnail


def test_character_that_no_font_has_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new_figure = runpy.run_path(figures.__file__)["new_figure"]
        pixels(new_figure(1.0, "\ue000"))


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    with matplotlib.rc_context({"text.color": "red", "font.size": 23}):
        before = dict(matplotlib.rcParams)
        figure = CHARTS["confusion"](CLASSES)
        assert dict(matplotlib.rcParams) == before
    assert {text.get_color() for text in texts(figure)} <= {"black", "white"}


def test_confusion_matrix_is_in_percent_of_each_label():
    confusion = torch.eye(10, dtype=torch.int64) * 300
    confusion[6, 0] = 100
    figure = plot_confusion_matrix(confusion, CLASSES, "title")
    numbers = {
        (int(text.get_position()[1]), int(text.get_position()[0])): text.get_text()
        for text in figure.axes[0].texts
    }
    shown = {(int(row), int(column)) for row, column in confusion.nonzero().tolist()}
    assert set(numbers) == shown
    assert numbers[0, 0] == "100"
    assert numbers[6, 6] == "75"
    assert numbers[6, 0] == "25"
    many = plot_confusion_matrix(torch.eye(40), [f"class {index}" for index in range(40)], "title")
    assert not many.axes[0].texts  # too many to read
    pixels(many)


def test_bars_of_the_reliability_diagram_are_accuracies():
    confidences = torch.full((100,), 0.99)
    half = plot_reliability(confidences, torch.arange(100) < 50, 0.49, "title")
    upper, lower = half.axes
    assert [round(bar.get_height(), 3) for bar in upper.patches] == [0.0] * 14 + [0.5]
    assert [round(bar.get_height(), 3) for bar in lower.patches] == [0.0] * 14 + [1.0]
    assert "calibration error 49.0 %" in [text.get_text() for text in texts(half)]
    nothing = plot_reliability(torch.zeros(0), torch.zeros(0, dtype=torch.bool), 0.0, "title")
    assert count(nothing, CORRECT) == 0


def test_grid_shows_every_image_and_caption():
    figure = plot_image_grid(IMAGES, ["one", "two", "three", "four"], "title", columns=3)
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert torch.equal(torch.stack([torch.tensor(image) for image in shown]), IMAGES.long())
    assert {"one", "two", "three", "four", "title"} == {text.get_text() for text in texts(figure)}
    cell = torch.zeros(1, 28, 28, dtype=torch.uint8)
    cell[0, 3, 20] = 200
    wide = torch.tensor([200, 0, 0], dtype=torch.uint8).expand(1, 28, 56, 3)
    assert count(plot_image_grid(wide, [" "], "title"), "#c80000") > 100
    long = plot_image_grid(wide, ["a" + 90 * "x" + "z"], "title", columns=2, width=7.2)
    assert "a" + 28 * "x" + "…" + 29 * "x" + "z" in [text.get_text() for text in texts(long)]
    assert long.get_size_inches()[0] == 7.2
    assert count(plot_image_grid(cell, [" "], "title"), "#c8c8c8") > 9  # a pixel stays sharp


def test_captions_say_by_color_what_is_correct():
    captions, correct = ["one", "two", "three", "four"], [True, False, None, True]
    figure = plot_image_grid(IMAGES, captions, "title", 2, are_correct=correct)
    colors = {text.get_text(): text.get_color() for text in texts(figure)}
    assert [colors[name] for name in captions] == [CORRECT, INCORRECT, "black", CORRECT]
    assert {"correct", "mistake: the folder names another class"} <= colors.keys()
    plain = plot_image_grid(IMAGES, captions, "title", 2, are_correct=[None] * 4)
    assert "correct" not in {text.get_text() for text in texts(plain)}


def test_each_curve_has_a_color_of_its_own():
    for num in (2, 10, 30):
        names = [f"class {index}" for index in range(num)]
        values = torch.rand(3, num).tolist()
        figure = plot_curves([1, 2, 3], values, names, "title")
        (axes,) = figure.axes
        assert len({str(line.get_color()) for line in axes.lines}) == num
        assert [np.asarray(line.get_ydata())[0] for line in axes.lines] == values[0]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == names


def test_feature_maps_say_how_many_are_shown():
    layers = [("input", torch.rand(1, 28, 28)), ("conv", torch.randn(10, 8, 8))]
    figure = plot_feature_maps(layers, "title")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "input: 1 of 28x28",
        "conv: 10 of 8x8, first 8 shown",
    ]
    constant = plot_feature_maps([("conv", torch.ones(3, 8, 8))], "title", max_maps=2)
    pixels(constant)


def test_bars_of_prediction_and_label_stand_out():
    image = IMAGES[0]
    correct = plot_prediction(image, PROBABILITIES, 0, CLASSES, "title")
    assert count(correct, INCORRECT) == 0
    wrong = plot_prediction(image, PROBABILITIES, 5, CLASSES, "title")
    assert count(wrong, INCORRECT) == count(correct, CORRECT) > 1000
    assert 0 < count(wrong, CORRECT) < 0.1 * count(correct, CORRECT)
    assert "60.0 %" in [text.get_text() for text in texts(wrong)]
