import pytest
import torch
from torch.nn import functional as F

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos import PhotoAugmentation


def bags():
    """300 images of a bright rectangle, 24 pixels wide and 10 high, on black; labels."""
    image = F.pad(torch.full((10, 24), 180, dtype=torch.uint8), (2, 2, 9, 9))
    return image.repeat(300, 1, 1), torch.full((300,), CLASSES.index("Bag"))


def test_object_fills_the_image_and_is_centered():
    torch.manual_seed(0)
    out = PhotoAugmentation(prob=1.0)(*bags())
    assert out.dtype == torch.uint8
    foreground = out > 0
    for mask in foreground:
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        height, width = (int(each.max() - each.min()) + 1 for each in (rows, columns))
        assert max(height, width) >= 26
        center = [(int(each.max()) + int(each.min())) / 2 for each in (rows, columns)]
        assert center == pytest.approx([13.5, 13.5], abs=1.5)
    assert (out[foreground] < 100).any()
    assert (out[foreground] > 240).any()


@pytest.mark.parametrize(
    ("prob", "sums", "next_number"),
    [
        (0.3, [70508, 34176, 26071, 34865, 36915, 41019, 36792, 35768, 38941, 40432], 0.6497838),
        (1.0, [64610, 79852, 62972, 84633, 45988, 58805, 76487, 42914, 35142, 30104], 0.1652905),
    ],
)
def test_seed_gives_the_same_images_as_ever(prob, sums, next_number):
    images = torch.zeros(10, 28, 28, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, images.shape, generator=generator, dtype=torch.uint8)
    images[:, 4:-6, 7:-5] = noise[:, 4:-6, 7:-5]
    torch.manual_seed(7)
    out = PhotoAugmentation(prob)(images, torch.arange(10))
    assert out.sum(dim=(1, 2)).tolist() == pytest.approx(sums, rel=1e-3)  # rounding differs
    assert float(torch.rand(())) == pytest.approx(next_number, abs=1e-6)


def test_input_stays_and_evaluation_changes_nothing():
    augmentation = PhotoAugmentation()
    images, labels = bags()
    augmentation(images, labels)
    assert torch.equal(images, bags()[0])
    assert augmentation.eval()(images, labels) is images


def test_black_images_and_small_batches():
    augmentation = PhotoAugmentation(prob=1.0)
    black = torch.zeros(10, 28, 28, dtype=torch.uint8)
    assert not augmentation(black, torch.arange(10)).any()
    assert augmentation(black[:1], torch.arange(1)).shape == (1, 28, 28)
    assert augmentation(black[:0], torch.arange(0)).shape == (0, 28, 28)


def test_refuses_a_prob_out_of_range():
    with pytest.raises(ValueError, match=r"prob must be 0 to 1, not 1\.1"):
        PhotoAugmentation(1.1)
