"""What happens inside a network: filters, feature maps, and what its last layer sees."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def first_conv_filters(network: nn.Module) -> Tensor | None:
    """The filters of the first convolution, shape (C, K, K), or None where there is none."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.weight.detach().mean(dim=1)
    return None


@torch.inference_mode()
def feature_maps(network: nn.Module, pixels: Tensor, most: int = 12) -> list[tuple[str, Tensor]]:
    """What each convolution and each pooling makes of a picture, in order.

    Args:
        network: In evaluation mode.
        pixels: The picture, float, shape (1, 1, 28, 28).
        most: How many layers are shown, the first ones.

    Returns:
        The name of each layer, such as ``features.0 Conv2d``, with its maps, float, (C, H, W).
    """
    found: list[tuple[str, Tensor]] = []

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:  # a network may do otherwise
                found.append((f"{name} {type(layer).__name__}", output[0].float().cpu()))

        return hook

    layers = [
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d) or "Pool2d" in type(layer).__name__
    ]
    with _hooks(layer.register_forward_hook(keep(name)) for name, layer in layers[:most]):
        network.forward(pixels)  # without what compile() may have made of it
    return found


@torch.inference_mode()
def embeddings(network: nn.Module, pixels: Tensor) -> Tensor:
    """What the last linear layer sees of pictures.

    Args:
        network: In evaluation mode.
        pixels: The pictures, float, shape (N, 1, 28, 28).

    Returns:
        Float, shape (N, D); the logits where the network has no linear layer, or uses it otherwise.
    """
    seen: list[Tensor] = []
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    with _hooks(
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for layer in linear[-1:]
    ):
        logits = network.forward(pixels)
    points = next((each for each in seen[-1:] if each.shape[:-1] == logits.shape[:-1]), logits)
    return points.float().cpu()


@contextlib.contextmanager
def _hooks(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Removes hooks in the end."""
    handles = list(handles)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
