"""The page of ``demo``, its functions called directly."""

from pathlib import Path

import pytest
from samples import photo

from fmnist_lightning import MLP, FashionClassifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos import predict_images

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install -e '.[demo]'")

from fmnist_lightning.demo.page import classify, serve  # noqa: E402


@pytest.fixture
def upload(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    path = tmp_path / "uploads" / "photo.jpg"
    path.parent.mkdir()
    photo().save(path)
    return str(path)


@pytest.mark.parametrize("classes", [CLASSES, ("hat", "glove")], ids=["Fashion-MNIST", "own"])
def test_probabilities_are_those_of_predict(classes, upload):
    classifier = FashionClassifier(classes=classes).eval()
    first, last = classify(classifier, upload)
    assert first == (*last[:4], None)  # the feature maps come later
    probabilities, hint, view, crop, maps = last
    (prediction,) = predict_images(classifier, [upload])
    assert probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
    assert hint.startswith("**Unsure.**") == (prediction.confidence < 0.5)
    assert view.size == (224, 224)
    assert (crop is None) == (classes != CLASSES)  # which the ImageNet network is not used for
    assert len(maps.axes) == 4  # two convolutions and two poolings


def test_network_without_convolutions_has_no_maps(upload):
    *_, last = classify(FashionClassifier(network=MLP).eval(), upload)
    assert last[4] is None


def test_removed_photo_clears_the_page():
    assert list(classify(FashionClassifier().eval(), None)) == [(None, "", None, None, None)]


def test_file_that_was_not_uploaded_is_not_read(upload, tmp_path):
    photo().save(tmp_path / "photo.jpg")
    link = Path(upload).with_name("link.jpg")
    link.symlink_to(tmp_path / "photo.jpg")
    for path in (tmp_path / "photo.jpg", link):
        with pytest.raises(gr.Error, match="not an uploaded file"):
            next(classify(FashionClassifier().eval(), str(path)))


def test_wrong_address_is_an_error():
    with pytest.raises(OSError, match=r"not known|assign"):
        serve(FashionClassifier(), "", "300.1.2.3", None)
