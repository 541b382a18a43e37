"""The inside of a network: filters, feature maps, and the inputs of its last layer."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn


def first_conv_filters(network: nn.Module) -> Tensor | None:
    """The filters of the first convolution, float, shape (C, K, K), or None if there is none."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.weight.detach().float().mean(dim=1).cpu()
    return None


@torch.inference_mode()
def feature_maps(
    network: nn.Module, inputs: Tensor, max_layers: int = 12
) -> list[tuple[str, Tensor]]:
    """The outputs of the first convolutions and poolings for an image, in order.

    Args:
        network: In evaluation mode.
        inputs: The image, float, shape (1, 1, 28, 28).
        max_layers: Number of layers.

    Returns:
        The name of each layer, such as ``features.0 Conv2d``, and its maps, float, (C, H, W).
    """
    found: dict[nn.Module, Tensor] = {}

    def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:  # other outputs are left out
            found[layer] = output[0].float().cpu()

    layers = {
        layer: f"{name} {type(layer).__name__}"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d) or "Pool2d" in type(layer).__name__
    }
    with ExitStack() as stack:
        for layer in list(layers)[:max_layers]:
            stack.enter_context(layer.register_forward_hook(hook))
        network.forward(inputs)  # not what compile() may have replaced it with
    return [(layers[layer], maps) for layer, maps in found.items()]


@torch.inference_mode()
def embeddings(network: nn.Module, inputs: Tensor) -> Tensor:
    """The inputs of the last linear layer.

    Args:
        network: In evaluation mode.
        inputs: Images, float, shape (N, 1, 28, 28).

    Returns:
        Float, shape (N, D); the logits if the network has no linear layer, or uses it otherwise.
    """
    found: list[Tensor] = []
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    with ExitStack() as stack:
        for layer in linear[-1:]:
            hook = layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
            stack.enter_context(hook)
        logits = network.forward(inputs)
    points = next((each for each in found[-1:] if each.shape[:-1] == logits.shape[:-1]), logits)
    return points.float().cpu()
