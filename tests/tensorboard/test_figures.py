import torch
from torch import Tensor

from fmnist_lightning.tensorboard.figures import (
    INK,
    RIGHT,
    WRONG,
    plot_confusion_matrix,
    plot_lines,
    plot_prediction,
    plot_reliability,
)


def count(chart: Tensor, colour: tuple[int, ...]) -> int:
    """Pixels of just this colour."""
    assert chart.dtype == torch.uint8
    return int((chart == torch.tensor(colour, dtype=torch.uint8)).all(dim=2).sum())


def test_cells_of_the_confusion_matrix_are_as_strong_as_their_share() -> None:
    confusion = torch.eye(10, dtype=torch.int64) * 100
    clean = plot_confusion_matrix(confusion, "title")
    confusion[6, 0] = 100  # half of all shirts
    chart = plot_confusion_matrix(confusion, "title")
    changed = (chart != clean).any(dim=2).nonzero()
    low, high = changed.min(dim=0).values, changed.max(dim=0).values
    assert ((high - low)[0] < 40).all()  # within one row
    row, column = 86 + 6 * 40 + 5, 120 + 5  # a corner of its cell, where no text is
    cell, background = chart[row, column].float(), clean[row, column].float()
    share = (cell - background).norm() / (torch.tensor(WRONG) - background).norm()
    assert abs(share - 0.75 * 0.5**0.5) < 0.02


def test_bars_of_the_reliability_chart_are_as_high_as_answers_are_right() -> None:
    confidences = torch.full((100,), 0.99)
    right = torch.arange(100) < 50
    half = count(plot_reliability(confidences, right, 0.49, "title"), RIGHT)
    full = count(plot_reliability(confidences, right | True, 0.01, "title"), RIGHT)
    assert 0.45 < half / full < 0.55
    nothing = plot_reliability(torch.zeros(0), torch.zeros(0, dtype=torch.bool), 0.0, "title")
    assert count(nothing, RIGHT) == 0


def test_the_bar_of_the_answer_stands_out() -> None:
    image = torch.zeros(28, 28, dtype=torch.uint8)
    short, long = (torch.tensor([top] + [(1 - top) / 9] * 9) for top in (0.4, 0.8))
    half, full, wrong = (
        plot_prediction(image, probabilities, label, "title")
        for probabilities, label in ((short, 0), (long, 0), (long, 5))
    )
    assert 1.8 < count(full, RIGHT) / count(half, RIGHT) < 2.2
    assert count(full, WRONG) == 0
    assert count(wrong, WRONG) == count(full, RIGHT)
    assert 0 < count(wrong, RIGHT) < 400  # the label's small bar


def test_each_line_has_a_colour_and_a_name() -> None:
    chart = plot_lines({"first": [1, 0.5, 0], "second": [0.2, 0.1, 0]}, "title", "x", "y")
    assert count(chart, RIGHT) > 500
    assert count(chart, WRONG) > 500
    alone = plot_lines({"first": [1, 0.5, 0]}, "title", "x", "y")
    assert count(alone, WRONG) == 0
    assert count(chart, INK) > count(alone, INK)  # the second name
    point = plot_lines({"first": [0.5]}, "title", "x", "y")  # a single point is no line
    assert count(point, RIGHT) > 50
