import functools
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import photo

from fmnist_lightning import FashionClassifier, SmallResNet, load_classifier, photos
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.data.images import resize_to_grayscale
from fmnist_lightning.photos import predict_images
from fmnist_lightning.photos.imagenet import class_probabilities
from fmnist_lightning.photos.preprocessing import preprocess_photo


def probabilities(predictions):
    return torch.tensor([list(prediction.probabilities.values()) for prediction in predictions])


def test_predict_images_takes_files_pillow_images_and_arrays(tmp_path):
    classifier = FashionClassifier(hflip_tta=True)
    images = torch.randint(0, 256, (7, 28, 28), dtype=torch.uint8)
    path = tmp_path / "1.png"
    Image.fromarray(images[1].numpy()).save(path)
    pillow = Image.fromarray(images[2].numpy())
    mixed = [images[0], str(path), path, pillow, images[3].numpy()]
    with torch.no_grad():
        expected = classifier.eval()(images).softmax(dim=1)
    predictions = predict_images(classifier, mixed, batch_size=2)
    torch.testing.assert_close(probabilities(predictions), expected[[0, 1, 1, 2, 3]])
    for label, confidence, by_name in predictions:
        assert list(by_name) == list(CLASSES)
        assert confidence == by_name[label] == max(by_name.values())
    labels = [label for label, *_ in predict_images(classifier, images.numpy())]
    assert labels == [CLASSES[index] for index in expected.argmax(dim=1)]
    assert predict_images(classifier, []) == []


def test_predict_images_combines_views_and_crop_of_photos_only():
    classifier = FashionClassifier().eval()
    image = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    views, crops = preprocess_photo(photo())
    batch_sizes = []
    classifier.network.register_forward_pre_hook(lambda _, args: batch_sizes.append(len(args[0])))
    predictions = predict_images(classifier, [image, photo(), image])
    assert batch_sizes == [1 + len(views) + 1]  # an image of the dataset is not repeated
    with torch.no_grad():
        of_image = classifier.probabilities(image[None])[0]
        product = classifier.probabilities(views).mean(dim=0) * class_probabilities(crops)
    expected = torch.stack([of_image, product[0] / product.sum(), of_image])
    torch.testing.assert_close(probabilities(predictions), expected)


def test_predict_images_of_own_classes_needs_neither_opencv_nor_imagenet(monkeypatch):
    for name in ("cv2", "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    classifier = FashionClassifier(classes=("hat", "glove")).eval()
    (prediction,) = predict_images(classifier, [photo()])
    image = resize_to_grayscale(photo())[None]
    assert list(prediction.probabilities) == ["hat", "glove"]
    expected = classifier.probabilities(image)[0].tolist()
    assert list(prediction.probabilities.values()) == pytest.approx(expected)


def test_predict_images_restores_the_training_mode():
    classifier = FashionClassifier(network=functools.partial(SmallResNet, dropout=0.5)).train()
    image = torch.zeros(28, 28, dtype=torch.uint8)
    assert predict_images(classifier, [image]) == predict_images(classifier, [image])  # no dropout
    assert all(module.training for module in classifier.modules())
    predict_images(classifier.eval(), [image])
    assert not any(module.training for module in classifier.modules())


def test_predict_images_refuses_a_single_file():
    for image in ("1.png", np.zeros((40, 30, 3), np.uint8)):
        with pytest.raises(ValueError, match="takes a list of images, not a single one"):
            predict_images(FashionClassifier(), image)


def test_example_of_the_page_runs(capsys):
    files = ["jacket.jpg", "shoes.png"]
    for name in files:
        photo().save(name)
    page = Path(__file__).parents[2] / "docs" / "photos.md"
    (script,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    capsys.readouterr()
    exec(compile(script, page, "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    predictions = predict_images(load_classifier("photos"), files)
    assert lines == [f"{p.label} {p.confidence} {p.probabilities['Sneaker']}" for p in predictions]


def test_photos_are_imported_without_the_packages_of_the_extra(monkeypatch):
    for name in ("cv2", "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    for path in Path(photos.__file__).parent.glob("*.py"):
        runpy.run_path(str(path))
