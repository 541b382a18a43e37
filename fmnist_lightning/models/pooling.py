"""Max pooling. Plain PyTorch."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

# Floats in a register of AVX-512. PyTorch's kernels work on that many channels at a time.
VECTOR_SIZE = 16


class FastMaxPool2d(nn.Module):
    """``nn.MaxPool2d(2)`` with the same values, faster on CPUs in evaluation and if compiled.

    ``nn.MaxPool2d`` also finds the position of each maximum, which only the gradient needs. This
    takes ten times as long as the maxima. ``torch.compile`` makes slow code of it for few channels:
    a quarter of the training step of ``ArticleCNN``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Maximum of each 2x2 window: shape (N, C, H, W) to (N, C, H // 2, W // 2)."""
        height, width = input.shape[-2] // 2 * 2, input.shape[-1] // 2 * 2
        if not torch.is_grad_enabled():
            return _max_pool(input[..., :height, :width])
        if torch.compiler.is_dynamo_compiling() and input.shape[1] < VECTOR_SIZE:
            return MaxPool.apply(input[..., :height, :width])  # type: ignore[no-any-return]
        return F.max_pool2d(input, 2)


class MaxPool(torch.autograd.Function):
    """Max pooling whose gradient compares each input with its maximum, and needs no positions.

    Equal maxima of a window share its gradient, as those of ``torch.amax`` do.
    """

    @override
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        """Shape (N, C, H, W), H and W even, to (N, C, H // 2, W // 2)."""
        maxima = _max_pool(input)
        ctx.save_for_backward(input, maxima)
        return maxima

    @override
    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        input, maxima = ctx.saved_tensors
        corners = [input[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        num_equal = sum((corner == maxima).to(input.dtype) for corner in corners)
        share = gradient / num_equal
        return torch.where(input == _upsample_2x(maxima), _upsample_2x(share), 0.0)


def _max_pool(input: Tensor) -> Tensor:
    rows = torch.maximum(input[..., 0::2, :], input[..., 1::2, :])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def _upsample_2x(maps: Tensor) -> Tensor:
    """Repeats each element for its 2x2 window, which compiles to faster code than interpolate."""
    rows, columns = (torch.arange(2 * size, device=maps.device) // 2 for size in maps.shape[-2:])
    return maps[..., rows, :][..., columns]
