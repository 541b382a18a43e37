import hashlib
from collections.abc import Callable
from pathlib import Path

import photos
import pytest
from samples import photo

from fmnist_lightning import load_classifier
from fmnist_lightning.photos import predict_images


@pytest.mark.slow
def test_photos_are_split_by_their_hash_and_counted_by_folder(fit: Callable[..., Path]) -> None:
    for number, folder in enumerate(("dress", "shoes") * 8):
        Path("mine", folder).mkdir(parents=True, exist_ok=True)
        photo(background=f"#{number:02x}b090").save(f"mine/{folder}/{number}.png")
    Path("mine", "other").mkdir()
    photo().save("mine/other/0.png")  # of no class

    parts = photos.split(Path("mine"))
    for part, paths in parts.items():
        assert paths
        for path in paths:
            number = int.from_bytes(hashlib.sha256(path.read_bytes()).digest(), "big")
            assert (number % 3 == 0) == (part == "held out")
    assert sum(map(len, parts.values())) == 16

    fit()
    networks = photos.build_networks(Path("best.ckpt"))
    assert list(networks) == ["best", "best, without ImageNet"]
    paths = parts["development"]
    with_imagenet, without = (photos.measure(network, paths) for network in networks.values())
    assert without["seconds"] > 0
    predictions = predict_images(load_classifier("best.ckpt"), paths)
    for folder, classes in (("dress", ["Dress"]), ("shoes", ["Sandal", "Sneaker", "Ankle boot"])):
        correct = [
            prediction.label in classes
            for prediction, path in zip(predictions, paths, strict=True)
            if path.parent.name == folder
        ]
        assert with_imagenet["counts"][folder] == [sum(correct), len(correct)]


def test_interval_of_the_balanced_accuracy() -> None:
    mean, half_width = photos.balanced_accuracy({"shoes": [3, 4], "dress": [1, 2]})
    assert mean == 0.625
    expected = 0.98 * (0.25 / 2 + (4 / 6) * (2 / 6) / 4) ** 0.5
    assert half_width == pytest.approx(expected)
    assert photos.balanced_accuracy({"dress": [20, 20]})[1] > 0.05  # 20 of 20 is not certainty
