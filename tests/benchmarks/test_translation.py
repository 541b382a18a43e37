import torch
from translation import translate


def test_translate_shifts_with_zero_padding():
    images = torch.arange(1, 10).view(1, 3, 3)
    assert translate(images, 1, 0).tolist() == [[[0, 0, 0], [1, 2, 3], [4, 5, 6]]]
    assert translate(images, 0, -2).tolist() == [[[3, 0, 0], [6, 0, 0], [9, 0, 0]]]
    assert torch.equal(translate(images, 0, 0), images)
