"""The page of ``demo``, its functions called directly."""

from pathlib import Path

import pytest
import torch
from samples import photo

from fmnist_lightning import MLP, FashionClassifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos import predict_images

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install -e '.[demo]'")

from fmnist_lightning.demo.page import (  # noqa: E402
    classify,
    draw_feature_maps,
    serve,
)


@pytest.fixture
def upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    path = tmp_path / "uploads" / "photo.jpg"
    path.parent.mkdir()
    photo().save(path)
    return str(path)


@pytest.mark.parametrize("classes", [CLASSES, ("hat", "glove")], ids=["Fashion-MNIST", "own"])
def test_probabilities_are_those_of_predict(classes: tuple[str, ...], upload: str) -> None:
    classifier = FashionClassifier(classes=classes).eval()
    probabilities, hint, view, crop = classify(classifier, upload)
    (prediction,) = predict_images(classifier, [upload])
    assert probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
    assert hint.startswith("**Unsure.**") == (prediction.confidence < 0.5)
    assert view.size == (224, 224)
    assert (crop is None) == (classes != CLASSES)  # which the ImageNet network is not used for
    maps = draw_feature_maps(classifier, upload)
    assert len(maps.axes) == 4  # two convolutions and two poolings


def test_low_confidence_is_called_unsure(upload: str) -> None:
    classifier = FashionClassifier(classes=("a", "b", "c")).eval()
    for weight in (0.0, 100.0):
        bias = classifier.network.get_parameter("head.3.bias")
        with torch.no_grad():
            for parameter in classifier.network.parameters():
                parameter.zero_()
            bias[1] = weight
        probabilities, hint, *_ = classify(classifier, upload)
        assert ("Unsure" in hint) == (weight == 0), probabilities


def test_network_without_convolutions_has_no_maps(upload: str) -> None:
    assert draw_feature_maps(FashionClassifier(network=MLP).eval(), upload) is None


def test_removed_photo_clears_the_page() -> None:
    assert classify(FashionClassifier().eval(), None) == (None, "", None, None)
    assert draw_feature_maps(FashionClassifier().eval(), None) is None


def test_file_that_was_not_uploaded_is_not_read(upload: str, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg")
    link = Path(upload).with_name("link.jpg")
    link.symlink_to(tmp_path / "photo.jpg")
    for path in (tmp_path / "photo.jpg", link):
        for function in (classify, draw_feature_maps):
            with pytest.raises(gr.Error, match="not an uploaded file"):
                function(FashionClassifier().eval(), str(path))


def test_wrong_address_is_an_error() -> None:
    with pytest.raises(OSError, match=r"not known|assign"):
        serve(FashionClassifier(), "", "300.1.2.3", None)
