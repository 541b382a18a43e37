import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from samples import photo
from timm.data.imagenet_info import ImageNetInfo
from torch import nn
from torch.nn import functional

from fmnist_lightning import FashionClassifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos import imagenet, predict_images
from fmnist_lightning.photos.imagenet import (
    IMAGENET_CLASSES,
    class_probabilities,
    imagenet_to_class_matrix,
)
from fmnist_lightning.photos.preprocessing import preprocess_photo


def test_classes_are_those_that_imagenet_has_for_garments():
    info = ImageNetInfo()
    names = {
        name: [info.index_to_description(index).split(",")[0] for index in indices]
        for name, indices in IMAGENET_CLASSES.items()
    }
    assert names["Trouser"] == ["jean", "swimming trunks"]
    assert names["Sandal"] == ["sandal"]
    assert names["Coat"][-1] == names["Shirt"][-1] == "trench coat"
    assert list(names) == list(CLASSES)


def test_imagenet_class_of_two_classes_counts_half_for_each():
    matrix = imagenet_to_class_matrix()
    assert matrix.shape == (1000, 10)
    suit = {CLASSES[index]: float(matrix[834, index]) for index in matrix[834].nonzero().flatten()}
    assert suit == {"Coat": 0.5, "Shirt": 0.5}
    assert set(matrix.sum(dim=1).tolist()) == {0.0, 1.0}


def test_a_portrait_in_uniform_is_a_suit():
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as portrait:
        crops = preprocess_photo(portrait.convert("RGB")).crops
    probabilities = class_probabilities(crops)[0]
    assert float(probabilities.sum()) == pytest.approx(1)
    coat, shirt = probabilities.topk(2).values.tolist()
    assert [CLASSES[index] for index in probabilities.topk(2).indices] == ["Coat", "Shirt"]
    assert coat - shirt < 0.01  # a suit counts half for each
    assert shirt > 2 * float(probabilities[CLASSES.index("Trouser")])


def test_two_certain_networks_that_disagree_have_a_prediction(monkeypatch):
    class Certain(nn.Module):
        def __init__(self, num_classes, index):
            super().__init__()
            self.logits = nn.Parameter(
                1e4 * functional.one_hot(torch.tensor(index), num_classes).float()
            )

        def forward(self, images):
            return self.logits.expand(len(images), -1)

    jeans = Certain(1000, 608)
    monkeypatch.setattr(imagenet, "imagenet_network", lambda: jeans)
    classifier = FashionClassifier()
    classifier.network = Certain(10, CLASSES.index("Bag"))
    (prediction,) = predict_images(classifier, [photo()])
    assert prediction.label == "Bag"  # the other classes have a probability of exactly 0
    assert prediction.confidence == 1
