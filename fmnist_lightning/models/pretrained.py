"""Transfer learning: torchvision's networks, for pictures in grey and ten classes."""

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

    Pictures in grey are shown to it as the same in red, green and blue, upscale_nearest and normalised as
    in its own training, so any weights fit as they are. They are loaded when training begins: a
    network that is rebuilt from a checkpoint has the checkpoint's.

    Attributes:
        backbone: The network of torchvision without its last layer: pictures to features.
        head: The new last layer.

    Args:
        name: As in ``torchvision.models``: ``resnet18``, ``mobilenet_v3_small``, ``vit_b_16``...
            It must end in a linear layer.
        weights: ``DEFAULT``, or another name that torchvision has for them, to download; a file
            with such weights; or None, to begin from random ones.
        image_size: Height and width in pixels that pictures are upscale_nearest to. Some networks need
            the size that they were made for.

    Raises:
        ValueError: If there is no such network, or it doesn't end in a linear layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str = "resnet18", weights: str | None = "DEFAULT", image_size: int = 64
    ) -> None:
        super().__init__()
        known = models.list_models(models)  # those that classify
        if name not in known:
            raise ValueError(f"torchvision has no network {name}; it has {', '.join(known)}")
        self.name = name
        self.weights = weights
        self.image_size = image_size
        with warnings.catch_warnings():
            # What random weights googlenet and inception_v3 will have one day is no one's concern.
            warnings.simplefilter("ignore", FutureWarning)
            self.backbone: nn.Module = models.get_model(name, weights=None)
        last, layer = list(self.backbone.named_modules())[-1]
        if not isinstance(layer, nn.Linear) or hasattr(self.backbone, "aux_logits"):
            raise ValueError(f"{name} does not end in one linear layer, which could be replaced")
        self.backbone.set_submodule(last, nn.Identity())
        self.last_layer = last  # what `weights` has and this network has not
        self.head = nn.Linear(layer.in_features, NUM_CLASSES)
        for part, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(part, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Scores each class.

        Args:
            images: Pictures, float, 0 to 1, shape (N, 1, 28, 28).

        Returns:
            Logits, float, shape (N, 10).
        """
        images = F.interpolate(images, size=(self.image_size,) * 2, mode="bilinear")
        logits: Tensor = self.head(self.backbone((images - self.mean) / self.std))  # (N, 3, S, S)
        return logits

    def load_pretrained(self) -> None:
        """Gives the backbone the weights it is to begin with, downloaded where they are a name.

        Raises:
            ValueError: If torchvision has no weights of that name, the file is not there or holds
                no weights, or they are of another network.
            OSError: If they can't be downloaded.
        """
        if self.weights is None:
            return
        known = models.get_model_weights(self.name).__members__
        if self.weights in known:
            loaded = self._download(known[self.weights])
        else:
            loaded = self._read_file(Path(self.weights), known)
        loaded = {
            key: value for key, value in loaded.items() if not key.startswith(f"{self.last_layer}.")
        }
        try:
            self.backbone.load_state_dict(loaded)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the weights of {self.weights} are not those of a {self.name}: {detail}"
            ) from error

    def _download(self, weights: models.WeightsEnum) -> dict[str, Any]:
        try:
            return dict(weights.get_state_dict(progress=True, check_hash=True))
        except (OSError, RuntimeError) as error:  # no network; a damaged file
            raise OSError(
                f"cannot get the weights of {self.name} from {weights.url}: {error}; download that "
                "file where you can and give it: --model.network.weights FILE"
            ) from error

    def _read_file(self, path: Path, known: Iterable[str]) -> dict[str, Any]:
        if not path.is_file():
            raise ValueError(
                f"{path} is neither a file nor the name of weights of {self.name}, which are "
                f"{', '.join(known)}"
            )
        loaded = safe_load(path, "holds no weights")
        if not isinstance(loaded, dict):
            raise ValueError(f"{path} holds a {type(loaded).__name__} where weights by name belong")
        return loaded
