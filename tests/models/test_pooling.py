import pytest
import torch
from torch import nn

from fmnist_lightning.models.pooling import FastMaxPool2d, MaxPool


@pytest.mark.parametrize("size", [(24, 24), (7, 8), (5, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fast_max_pool_equals_torch_with_and_without_gradients(size, layout):
    maps = torch.randn(3, 5, *size).relu()  # with ties
    maps[0, 0, 0, 0] = torch.nan
    expected = nn.MaxPool2d(2)(maps)
    exactly = {"equal_nan": True, "rtol": 0, "atol": 0}
    maps = maps.contiguous(memory_format=layout)
    torch.testing.assert_close(FastMaxPool2d()(maps), expected, **exactly)
    with torch.no_grad():
        torch.testing.assert_close(FastMaxPool2d()(maps), expected, **exactly)


def test_gradient_of_the_compiled_max_pool_is_that_of_torch():
    maps = torch.randn(3, 5, 8, 6, dtype=torch.double, requires_grad=True)
    gradient = torch.randn(3, 5, 4, 3, dtype=torch.double)
    expected = torch.autograd.grad(nn.MaxPool2d(2)(maps), maps, gradient)
    assert torch.equal(torch.autograd.grad(MaxPool.apply(maps), maps, gradient)[0], expected[0])


def test_equal_maxima_share_the_gradient():
    maps = torch.tensor([[[[3.0, 3.0, 0.0, 1.0], [2.0, 3.0, 0.0, 0.0]]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(MaxPool.apply(maps).sum(), maps)
    third = 1 / 3
    assert gradient[0, 0].tolist() == [
        pytest.approx(row) for row in ([third, third, 0, 1], [0, third, 0, 0])
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "size"), [(5, (24, 24)), (5, (5, 3)), (16, (7, 8))])
def test_compiled_max_pool_equals_torch(channels, size):
    maps = torch.randn(3, channels, *size, requires_grad=True)
    found, expected = torch.compile(FastMaxPool2d())(maps), nn.MaxPool2d(2)(maps)
    assert torch.equal(found, expected)
    gradient = torch.randn_like(expected)
    (ours,), (theirs,) = (torch.autograd.grad(each, maps, gradient) for each in (found, expected))
    assert torch.equal(ours, theirs)
