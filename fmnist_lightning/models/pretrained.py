"""Transfer learning: torchvision's classification networks on grayscale images."""

import warnings
from pathlib import Path

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

    Images are resized, repeated in three channels and normalised as in ImageNet training. Then
    ``backbone``, the network without its last layer, turns them into features, and ``head`` these
    into logits. Weights are loaded when a fit starts, and otherwise come from the checkpoint.

    Args:
        name: Of ``torchvision.models``: a network that ends in one linear layer, as ``resnet18``.
        weights: ``DEFAULT`` or another name that torchvision downloads; a file; None for random.
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
        names = models.list_models(models)  # without those for detection, segmentation, video
        if name not in names:
            raise ValueError(f"torchvision has no network {name}; it has {', '.join(names)}")
        self.name, self.weights, self.image_size = name, weights, image_size
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
        """Loads ``weights`` into the backbone; ValueError or OSError says why it can't."""
        weights = self.weights
        if weights is None:
            return
        known = models.get_model_weights(self.name).__members__
        if weights in known:
            try:
                state = known[weights].get_state_dict(progress=True, check_hash=True)
            except (OSError, RuntimeError) as error:  # no network; a corrupt file
                raise OSError(
                    f"cannot download the weights of {self.name} from {known[weights].url}: "
                    f"{error}; download that file on another machine and pass it with "
                    "--model.network.weights FILE"
                ) from error
        elif Path(weights).is_file():
            state = safe_load(Path(weights), "holds no weights")
        else:
            raise ValueError(
                f"{weights} is neither a file nor the name of weights of {self.name}, which are "
                f"{', '.join(known)}"
            )
        if not isinstance(state, dict):
            raise ValueError(f"{weights} holds a {type(state).__name__}, not a dict of weights")
        last = f"{self.last_layer}."
        state = {key: value for key, value in state.items() if not key.startswith(last)}
        try:
            self.backbone.load_state_dict(state)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise ValueError(f"{weights} holds no weights of {self.name}: {detail}") from error
