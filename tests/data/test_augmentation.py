import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fmnist_lightning import RandomAugmentation


def pictures(num: int = 400) -> Tensor:
    """Pictures whose pixels all differ from one another and from black."""
    image = 1 + torch.randperm(252)[:196].view(14, 14)
    return F.pad(image, [7] * 4).to(torch.uint8).repeat(num, 1, 1)


def test_mirrors_half_of_the_pictures() -> None:
    torch.manual_seed(0)
    images = pictures()
    out = RandomAugmentation(max_translation=0)(images)
    kept = (out == images).all(2).all(1)
    mirrored = (out == images.flip(2)).all(2).all(1)
    assert (kept ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_shifts_each_picture_by_itself_and_fills_with_black() -> None:
    torch.manual_seed(0)
    images = pictures()
    out = RandomAugmentation(hflip_prob=0.0, max_translation=2)(images)
    assert out.dtype == torch.uint8
    counts = torch.zeros(5, 5, dtype=torch.int64)
    for down in range(-2, 3):
        for right in range(-2, 3):
            moved = images.roll((down, right), dims=(1, 2))  # the margin is black and wide enough
            counts[down + 2, right + 2] = (out == moved).all(2).all(1).sum()
    assert counts.sum() == len(images)
    assert counts.min() > 0

    white = torch.full((100, 28, 28), 255, dtype=torch.uint8)
    dark = (RandomAugmentation(max_translation=3)(white) == 0).sum(dim=(1, 2))
    assert set(dark.tolist()) <= {28 * 28 - (28 - a) * (28 - b) for a in range(4) for b in range(4)}
    assert len(set(dark.tolist())) > 5


def test_erases_rectangles_of_noise() -> None:
    torch.manual_seed(0)
    images = torch.zeros(2000, 28, 28, dtype=torch.uint8)
    out = RandomAugmentation(hflip_prob=0.0, max_translation=0, erase_prob=0.5)(images)
    touched = out.bool().any(2).any(1)
    assert 900 < touched.sum() < 1100
    areas = []
    for image in out[touched]:
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        high, wide = (int(each.max() - each.min()) + 1 for each in (rows, columns))
        filled = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (filled == 0).float().mean() < 0.2  # one rectangle, all of it noise
        areas.append(high * wide / 784)
    assert 0.01 < min(areas) < 0.03
    assert 0.27 < max(areas) < 0.33
    assert 120 < out[out > 0].float().mean() < 136
    assert out[out > 0].float().std() > 60


def test_repeats_with_the_seed_and_differs_with_the_draw() -> None:
    augmentation = RandomAugmentation(erase_prob=1.0)
    images = pictures(50)
    torch.manual_seed(1)
    first, second = augmentation(images), augmentation(images)
    torch.manual_seed(1)
    assert torch.equal(augmentation(images), first)
    assert not torch.equal(first, second)


def test_changes_nothing_in_evaluation_and_never_its_input() -> None:
    images = pictures(50)
    before = images.clone()
    augmentation = RandomAugmentation(erase_prob=1.0)
    augmentation(images)
    assert torch.equal(images, before)
    assert torch.equal(augmentation.eval()(images), before)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_translation": 28}, "max_translation must be 0 to 27 pixels, not 28"),
        ({"erase_prob": 1.5}, "erase_prob must be a probability, 0 to 1, not 1.5"),
    ],
)
def test_numbers_out_of_range(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomAugmentation(**kwargs)  # type: ignore[arg-type]
