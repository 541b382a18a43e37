import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos import PhotoAugmentation

SNEAKER, PULLOVER, BAG, TROUSER = (
    CLASSES.index(name) for name in ("Sneaker", "Pullover", "Bag", "Trouser")
)


def pictures(label: int, num: int = 300) -> tuple[Tensor, Tensor]:
    """A bright thing, 24 wide and 10 high, on black."""
    image = F.pad(torch.full((10, 24), 180, dtype=torch.uint8), (2, 2, 9, 9))
    return image.repeat(num, 1, 1), torch.full((num,), label)


def test_the_thing_fills_the_picture_and_is_in_its_middle() -> None:
    torch.manual_seed(0)
    out = PhotoAugmentation(prob=1.0)(*pictures(BAG))
    assert out.dtype == torch.uint8
    seen = out > 0
    for image in seen:
        rows, columns = image.any(dim=1).nonzero(), image.any(dim=0).nonzero()
        high, wide = (int(each.max() - each.min()) + 1 for each in (rows, columns))
        assert max(high, wide) >= 26
        middle = [(int(each.max()) + int(each.min())) / 2 for each in (rows, columns)]
        assert middle == pytest.approx([13.5, 13.5], abs=1.5)
    assert (out[seen] < 100).any()
    assert (out[seen] > 240).any()


def areas(label: int) -> Tensor:
    """How much of each picture the thing takes, of the square around it."""
    torch.manual_seed(0)
    out: Tensor = PhotoAugmentation(prob=1.0)(*pictures(label))
    return (out > 0).float().mean(dim=(1, 2))


def test_most_shoes_become_pairs() -> None:
    single, pair = areas(BAG), areas(SNEAKER)
    assert single.median() < 0.55
    assert (pair > 0.6).float().mean() > 0.3
    assert (single > 0.6).float().mean() < 0.1


def test_sleeves_are_spread() -> None:
    tall = F.pad(torch.full((24, 20), 180, dtype=torch.uint8), (4, 4, 2, 2)).repeat(300, 1, 1)
    apart = {}  # how many pictures have several things side by side
    for label in (BAG, PULLOVER):
        torch.manual_seed(0)
        out = PhotoAugmentation(prob=1.0)(tall, torch.full((len(tall),), label)) > 0
        edges = (out[:, :, 1:] != out[:, :, :-1]).sum(dim=2)
        apart[label] = float((edges >= 4).any(dim=1).float().mean())
    assert apart[PULLOVER] > apart[BAG] + 0.25  # what is cut and bent has gaps, too


def test_what_is_not_chosen_is_changed_as_usual() -> None:
    torch.manual_seed(0)
    images, labels = pictures(BAG)
    out = PhotoAugmentation(prob=0.0)(images, labels)
    kept = (out == images).all(dim=2).all(dim=1).float().mean()
    assert 0.02 < kept < 0.2  # neither moved, one in nine, nor erased, one in two
    some = PhotoAugmentation(prob=0.5)(images, labels)
    grown = ((some > 0).any(dim=2).sum(dim=1) > 13) & ((some > 0).any(dim=1).sum(dim=1) > 26)
    assert 0.3 < grown.float().mean() < 0.7


def test_repeats_with_the_seed_and_leaves_its_input_alone() -> None:
    augmentation = PhotoAugmentation()
    images, labels = pictures(TROUSER, 50)
    before = images.clone()
    torch.manual_seed(1)
    first, second = augmentation(images, labels), augmentation(images, labels)
    torch.manual_seed(1)
    assert torch.equal(augmentation(images, labels), first)
    assert not torch.equal(first, second)
    assert torch.equal(images, before)
    assert augmentation.eval()(images, labels) is images


def test_black_pictures_and_small_batches_are_no_trouble() -> None:
    augmentation = PhotoAugmentation(prob=1.0)
    black = torch.zeros(10, 28, 28, dtype=torch.uint8)
    assert not augmentation(black, torch.arange(10)).any()
    assert augmentation(black[:1], torch.arange(1)).shape == (1, 28, 28)
    assert augmentation(black[:0], torch.arange(0)).shape == (0, 28, 28)


@pytest.mark.parametrize("prob", [-0.1, 1.1])
def test_refuses_a_prob_out_of_range(prob: float) -> None:
    with pytest.raises(ValueError, match=f"prob must be 0 to 1, not {prob}"):
        PhotoAugmentation(prob)
