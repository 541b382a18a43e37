"""The page of ``demo``, called directly, and as a browser shows it."""

from pathlib import Path

import pytest
from samples import photo

from fmnist_lightning import MLP, FashionClassifier, FashionMNISTDataModule
from fmnist_lightning.photos import predict_images

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install -e '.[demo]'")

from fmnist_lightning.demo.page import classify, write_examples  # noqa: E402


def uploaded(path: Path) -> dict[str, str]:
    """A file as Gradio gives it."""
    return {"path": str(path), "orig_name": f"my {path.name}"}


def test_probabilities_are_those_of_predict(tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg")
    classifier = FashionClassifier().eval()
    probabilities, view, maps = classify(classifier, uploaded(tmp_path / "photo.jpg"))
    (prediction,) = predict_images(classifier, [tmp_path / "photo.jpg"])
    assert probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
    assert view is not None
    assert view.size == (336, 336)
    assert len(maps.axes) == 4  # two convolutions and two poolings


def test_network_without_convolutions_has_no_maps(tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg")
    classifier = FashionClassifier(network=MLP).eval()
    assert classify(classifier, uploaded(tmp_path / "photo.jpg"))[2] is None


def test_removed_photo_clears_the_page() -> None:
    assert classify(FashionClassifier().eval(), None) == (None, None, None)


def test_damaged_photo_is_an_error_that_does_not_tell_the_folder(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"hello")
    with pytest.raises(gr.Error) as caught:
        classify(FashionClassifier().eval(), uploaded(tmp_path / "photo.jpg"))
    assert caught.value.message == "my photo.jpg: not an image file"


def test_examples_are_an_image_of_each_class(data_dir: Path, tmp_path: Path) -> None:
    datamodule = FashionMNISTDataModule(str(data_dir), train_size=480, val_size=120)
    files = write_examples(datamodule, tmp_path)
    assert [file.name for file in files] == [f"{label}.png" for label in range(10)]
