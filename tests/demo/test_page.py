"""The page of ``demo``, its functions called directly."""

from pathlib import Path

import pytest
from samples import photo, tiny_data

from fmnist_lightning import MLP, FashionClassifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.photos import predict_images

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install -e '.[demo]'")

from fmnist_lightning.demo.page import classify, serve, write_examples  # noqa: E402


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
    probabilities, view, maps = classify(classifier, upload)
    (prediction,) = predict_images(classifier, [upload])
    assert probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
    assert view is not None
    assert view.size == (336, 336)
    assert len(maps.axes) == 4  # two convolutions and two poolings


def test_network_without_convolutions_has_no_maps(upload: str) -> None:
    assert classify(FashionClassifier(network=MLP).eval(), upload)[2] is None


def test_removed_photo_clears_the_page() -> None:
    assert classify(FashionClassifier().eval(), None) == (None, None, None)


def test_file_that_was_not_uploaded_is_not_read(upload: str, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg")
    link = Path(upload).with_name("link.jpg")
    link.symlink_to(tmp_path / "photo.jpg")
    for path in (tmp_path / "photo.jpg", link):
        with pytest.raises(gr.Error, match="not an uploaded file"):
            classify(FashionClassifier().eval(), str(path))


def test_wrong_address_is_an_error() -> None:
    with pytest.raises(OSError, match=r"not known|assign"):
        serve(FashionClassifier(), tiny_data(), "", "300.1.2.3", None)


@pytest.mark.usefixtures("data_dir")
def test_examples_are_test_images(tmp_path: Path) -> None:
    files = write_examples(tiny_data(), tmp_path)
    assert [Path(file).name for file in files] == [f"{index}.png" for index in range(10)]


def test_page_without_the_data_has_no_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    datamodule = tiny_data()
    monkeypatch.setattr(datamodule, "data_dir", str(tmp_path / "gone"))
    assert write_examples(datamodule, tmp_path) == []
    assert capsys.readouterr().out.startswith("There are no test images here: ")
