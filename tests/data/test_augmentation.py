import pytest
import torch
from torch.nn import functional as F

from fmnist_lightning import RandomAugmentation


def padded_images(num=400):
    """Images whose pixels all differ from one another and from the margin of zeros."""
    image = 1 + torch.randperm(252)[:196].view(14, 14)
    return F.pad(image, [7] * 4).to(torch.uint8).repeat(num, 1, 1)


FLIPPED = [[4, 3, 2, 1], [8, 7, 6, 5], [12, 11, 10, 9]]
UNCHANGED = [[13, 14, 15, 16], [17, 18, 19, 20], [21, 22, 23, 24]]
TRANSLATED = [[0, 0, 0, 0], [0, 13, 14, 15], [0, 17, 18, 19]]


@pytest.mark.parametrize(
    ("hflip_prob", "max_translation", "erase_prob", "expected"),
    [
        (0.5, 0, 0.0, [FLIPPED, UNCHANGED]),
        (0.0, 1, 0.0, [[[6, 7, 8, 0], [10, 11, 12, 0], [0, 0, 0, 0]], TRANSLATED]),
        (0.5, 1, 0.0, [[[0, 8, 7, 6], [0, 12, 11, 10], [0, 0, 0, 0]], TRANSLATED]),
        (0.5, 1, 0.5, [[[88, 140, 7, 6], [0, 12, 11, 10], [0, 0, 0, 0]], TRANSLATED]),
        (0.0, 0, 0.75, [[[1, 2, 3, 4], [5, 216, 7, 8], [9, 10, 11, 12]], UNCHANGED]),
    ],
)
def test_draws_for_a_seed_stay_the_same(hflip_prob, max_translation, erase_prob, expected):
    """Published results depend on them."""
    images = torch.arange(1, 25, dtype=torch.uint8).view(2, 3, 4)
    torch.manual_seed(0)
    augmented = RandomAugmentation(hflip_prob, max_translation, erase_prob)(images)
    assert augmented.tolist() == expected


def test_flips_half_of_the_images():
    torch.manual_seed(0)
    images = padded_images()
    augmented = RandomAugmentation(max_translation=0)(images)
    unchanged = (augmented == images).all(2).all(1)
    flipped = (augmented == images.flip(2)).all(2).all(1)
    assert (unchanged ^ flipped).all()
    assert 150 < flipped.sum() < 250


def test_translates_each_image_independently():
    torch.manual_seed(0)
    images = padded_images()
    augmented = RandomAugmentation(hflip_prob=0.0, max_translation=2)(images)
    assert augmented.dtype == torch.uint8
    counts = torch.zeros(5, 5, dtype=torch.int64)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            expected = images.roll((dy, dx), dims=(1, 2))  # the margin is wide enough
            counts[dy + 2, dx + 2] = (augmented == expected).all(2).all(1).sum()
    assert counts.sum() == len(images)
    assert counts.min() > 0


def test_erases_rectangles_of_noise():
    torch.manual_seed(0)
    images = torch.zeros(2000, 28, 28, dtype=torch.uint8)
    augmented = RandomAugmentation(hflip_prob=0.0, max_translation=0, erase_prob=0.5)(images)
    erased = augmented.bool().any(2).any(1)
    assert 900 < erased.sum() < 1100
    assert augmented.bool().any(0).all()  # at any position, up to the margins
    areas = []
    for image in augmented[erased]:
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        height, width = (int(each.max() - each.min()) + 1 for each in (rows, columns))
        box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == 0).float().mean() < 0.2  # one rectangle, filled with noise
        areas.append(height * width / 784)
    assert 0.01 < min(areas) < 0.03
    assert 0.27 < max(areas) < 0.33
    assert 120 < augmented[augmented > 0].float().mean() < 136
    assert augmented[augmented > 0].float().std() > 60


def test_eval_mode_returns_the_input_and_training_leaves_it_unchanged():
    images = padded_images(50)
    before = images.clone()
    augmentation = RandomAugmentation(erase_prob=1.0)
    augmentation(images)
    assert torch.equal(images, before)
    assert augmentation.eval()(images) is images


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_translation": 28}, "max_translation must be 0 to 27 pixels, not 28"),
        ({"max_translation": -1}, "max_translation must be 0 to 27 pixels, not -1"),
        ({"hflip_prob": -0.1}, "hflip_prob must be a probability, 0 to 1, not -0.1"),
        ({"erase_prob": 1.5}, "erase_prob must be a probability, 0 to 1, not 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RandomAugmentation(**kwargs)
