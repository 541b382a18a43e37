"""What a network, in evaluation mode, computes inside."""

import contextlib
import functools

import torch
from torch import Tensor, nn


def first_conv_filters(network: nn.Module) -> Tensor | None:
    """The filters of the first convolution, (C, K, K), averaged over its inputs; None without."""
    weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return weights[0].detach().float().mean(dim=1).cpu() if weights else None


@torch.inference_mode()
def feature_maps(
    network: nn.Module, inputs: Tensor, max_layers: int = 12
) -> list[tuple[str, Tensor]]:
    """Name and output, (C, H, W), of the first convolutions and poolings, for one image."""
    maps: list[tuple[str, Tensor]] = []

    def keep(name: str, layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:  # MaxPool2d may return a tuple
            maps.append((f"{name} {type(layer).__name__}", output[0].float().cpu()))

    with contextlib.ExitStack() as hooks:
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d) or "Pool2d" in type(layer).__name__:
                hooks.enter_context(layer.register_forward_hook(functools.partial(keep, name)))
        network.forward(inputs)  # a compiled `__call__` would bypass the hooks
    return maps[:max_layers]
