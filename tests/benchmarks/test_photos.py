from pathlib import Path

import photos
import pytest


def test_correct_predictions_are_counted_by_folder():
    predictions = {
        "shoes/1": "Sandal",
        "shoes/2": "Sneaker",
        "shoes/3": "Dress",
        "dress/1": "Dress",
    }
    counted = photos.count(lambda path: predictions[str(path)], map(Path, predictions))
    assert {name: counts for name, counts in counted["counts"].items() if counts[1]} == {
        "dress": [1, 1],
        "shoes": [2, 3],
    }


def test_interval_of_the_balanced_accuracy():
    mean, half_width = photos.balanced_accuracy({"shoes": [3, 4], "dress": [1, 2]})
    assert mean == 0.625
    expected = 0.98 * (0.25 / 2 + (4 / 6) * (2 / 6) / 4) ** 0.5
    assert half_width == pytest.approx(expected)
    assert photos.balanced_accuracy({"dress": [20, 20]})[1] > 0.05  # 20 of 20 is not certainty
