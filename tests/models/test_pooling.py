from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fmnist_lightning.models.pooling import FastMaxPool2d


@pytest.mark.parametrize("size", [(24, 24), (7, 8), (5, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fast_max_pool_equals_torch_with_and_without_gradients(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    maps: Tensor = torch.randn(3, 5, *size).relu()  # with ties
    maps[0, 0, 0, 0] = torch.nan
    expected = nn.MaxPool2d(2)(maps)
    exactly: dict[str, Any] = {"equal_nan": True, "rtol": 0, "atol": 0}
    maps = maps.contiguous(memory_format=layout)
    torch.testing.assert_close(FastMaxPool2d()(maps), expected, **exactly)
    with torch.no_grad():
        torch.testing.assert_close(FastMaxPool2d()(maps), expected, **exactly)
