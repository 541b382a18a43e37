import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from samples import photo

from fmnist_lightning.photos.preprocessing import (
    ASPECT_SCALES,
    WORKING_SIZES,
    preprocess_photo,
    segment_foreground,
)


def test_segment_foreground_finds_the_object():
    mask = segment_foreground(np.asarray(photo()))
    expected = np.asarray(photo("#000000", "#ffffff").convert("L")) < 128
    assert (mask & expected).sum() / (mask | expected).sum() > 0.95


def test_segment_foreground_ignores_objects_that_are_too_small():
    image = Image.new("RGB", (200, 200), "#c8b090")
    draw = ImageDraw.Draw(image)
    draw.rectangle((92, 92, 108, 108), fill="#203050")  # 0.7 % of the photo
    assert segment_foreground(np.asarray(image)).all()
    draw.rectangle((70, 70, 130, 130), fill="#203050")  # 9 %
    assert segment_foreground(np.asarray(image)).mean() == pytest.approx(0.093, abs=0.01)


def test_preprocess_photo_gives_views_like_images_of_the_dataset():
    views, crops = preprocess_photo(photo())
    assert views.shape == (len(WORKING_SIZES) * len(ASPECT_SCALES), 28, 28)
    assert views.dtype == crops.dtype == torch.uint8
    view = views[-1]
    rows, columns = (view > 0).any(dim=1).nonzero(), (view > 0).any(dim=0).nonzero()
    height, width = (int(line.max() - line.min()) + 1 for line in (rows, columns))
    assert height == 28
    assert abs(width - 28 * ASPECT_SCALES[-1] * 120 / 160) <= 1  # the shirt is 120x160 pixels
    assert int(view[14, 14]) == pytest.approx(255 - 0x30, abs=12)  # dark became bright
    assert view[27, -8:].max() == 0  # below the sleeve


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 2), (7, 9), (28, 29), (3000, 10)])
def test_preprocess_photo_takes_any_size_also_without_an_object(size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for image in (Image.fromarray(noise), Image.new("RGB", size, "gray")):
        views, crops = preprocess_photo(image)
        assert views.shape == (len(WORKING_SIZES) * len(ASPECT_SCALES), 28, 28)
        assert crops.shape == (1, 224, 224, 3)
    assert preprocess_photo(Image.new("RGB", (90, 90), "#808080")).views[-1][14, 14] == 127
