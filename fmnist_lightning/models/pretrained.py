"""Transfer learning: torchvision's classification networks on grayscale images."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from fmnist_lightning.data.dataset import NUM_CLASSES
from fmnist_lightning.internals.files import safe_load

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PretrainedNetwork(nn.Module):
    """A network of torchvision with a new last layer, for ``BackboneFinetuning`` and ``fit``.

    Images are resized, repeated in three channels and normalised as in ImageNet training. Weights
    are loaded when a fit starts: a network built from a checkpoint gets the checkpoint's.

    Attributes:
        backbone: The network without its last layer: images to features.
        head: The new last layer.

    Args:
        name: Of ``torchvision.models``, such as ``resnet18`` or ``vit_b_16``; it must end in one
            linear layer.
        weights: ``DEFAULT`` or another name of weights that torchvision downloads; a file with
            such weights; or None for random ones.
        image_size: Height and width in pixels that images are resized to. Some networks accept
            only the size of their own training.
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
        names = models.list_models(models)  # without those for detection, segmentation, video
        if name not in names:
            raise ValueError(f"torchvision has no network {name}; it has {', '.join(names)}")
        self.name = name
        self.weights = weights
        self.image_size = image_size
        with warnings.catch_warnings():  # of a future change of random weights
            warnings.simplefilter("ignore", FutureWarning)
            self.backbone: nn.Module = models.get_model(name, weights=None)
        self.last_layer, layer = list(self.backbone.named_modules())[-1]
        if not isinstance(layer, nn.Linear) or hasattr(self.backbone, "aux_logits"):
            raise ValueError(f"{name} does not end in one linear layer that could be replaced")
        self.backbone.set_submodule(self.last_layer, nn.Identity())
        self.head = nn.Linear(layer.in_features, num_classes)
        for stat, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(stat, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images, float, 0 to 1, shape (N, 1, H, W), to logits (N, num_classes)."""
        images = F.interpolate(images, size=(self.image_size,) * 2, mode="bilinear")
        inputs = (images - self.mean) / self.std  # (N, 3, image_size, image_size)
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    def load_pretrained(self) -> None:
        """Loads ``weights`` into the backbone.

        Raises:
            ValueError: If ``weights`` is neither a name nor a file of weights, or of another
                network.
            OSError: If they can't be downloaded.
        """
        if self.weights is None:
            return
        known = models.get_model_weights(self.name).__members__
        if self.weights in known:
            state = self._download(known[self.weights])
        else:
            state = self._read_file(Path(self.weights), known)
        prefix = f"{self.last_layer}."
        try:
            self.backbone.load_state_dict(
                {key: value for key, value in state.items() if not key.startswith(prefix)}
            )
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.weights} holds no weights of {self.name}: {detail}") from error

    def _download(self, weights: models.WeightsEnum) -> dict[str, Any]:
        try:
            return dict(weights.get_state_dict(progress=True, check_hash=True))
        except (OSError, RuntimeError) as error:  # no network; a corrupt file
            raise OSError(
                f"cannot download the weights of {self.name} from {weights.url}: {error}; download "
                "that file on another machine and pass it with --model.network.weights FILE"
            ) from error

    def _read_file(self, path: Path, known: Iterable[str]) -> dict[str, Any]:
        if not path.is_file():
            raise ValueError(
                f"{path} is neither a file nor the name of weights of {self.name}, which are "
                f"{', '.join(known)}"
            )
        state = safe_load(path, "holds no weights")
        if not isinstance(state, dict):
            raise ValueError(f"{path} holds a {type(state).__name__}, not a dict of weights")
        return state
