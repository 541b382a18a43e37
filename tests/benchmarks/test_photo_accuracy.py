import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import photos
import pytest
from samples import photo

from fmnist_lightning import load_classifier
from fmnist_lightning.photos import predict_images


def test_photo_table_is_that_of_the_saved_counts() -> None:
    saved = json.loads(photos.SAVED.read_text())
    assert [(row["network"], row["part"]) for row in saved["rows"]] == [
        (network + imagenet, part)
        for network in ("photos", "photos-without")
        for imagenet in ("", ", without ImageNet")
        for part in photos.PARTS
    ]
    assert photos.MARKS.find(photos.PAGE) == photos.table(saved["rows"])


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
    (predict, alone) = photos.networks([Path("best.ckpt")]).values()
    prepared = photos.prepare(parts["development"])
    counts = photos.measure(predict, prepared)["counts"]
    assert photos.measure(alone, prepared)["seconds"] > 0
    predictions = predict_images(load_classifier("best.ckpt"), parts["development"])
    for folder, classes in (("dress", ["Dress"]), ("shoes", ["Sandal", "Sneaker", "Ankle boot"])):
        mine = [
            prediction.label in classes
            for prediction, path in zip(predictions, parts["development"], strict=True)
            if path.parent.name == folder
        ]
        assert counts[folder] == [sum(mine), len(mine)]
    rows = [
        {"network": "n", "part": "held out", "seconds": 0.1, "counts": {"a": [1, 4], "b": [3, 4]}}
    ]
    (*_, line) = photos.table(rows).splitlines()
    assert line.startswith("| n | 8 held out | **50.0** ± ")
    assert line.endswith("| 0.10 | 1/4 | 3/4 |")
