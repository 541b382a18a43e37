"""The page of ``demo``, its functions called directly."""

import socket
from pathlib import Path

import pytest
from samples import photo

from fmnist_lightning import MLP, FashionClassifier, FashionMNISTDataModule
from fmnist_lightning.photos import predict_images

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install -e '.[demo]'")

from fmnist_lightning.demo.page import classify, serve, write_examples  # noqa: E402


def uploaded(path: Path) -> dict[str, str]:
    """A file as Gradio gives it."""
    return {"path": str(path), "orig_name": f"my {path.name}"}


def test_probabilities_are_those_of_predict(tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg")
    classifier = FashionClassifier().eval()
    probabilities, view, maps = classify(classifier, tmp_path, uploaded(tmp_path / "photo.jpg"))
    (prediction,) = predict_images(classifier, [tmp_path / "photo.jpg"])
    assert probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
    assert view is not None
    assert view.size == (336, 336)
    assert len(maps.axes) == 4  # two convolutions and two poolings


def test_network_without_convolutions_has_no_maps(tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg")
    classifier = FashionClassifier(network=MLP).eval()
    assert classify(classifier, tmp_path, uploaded(tmp_path / "photo.jpg"))[2] is None


def test_removed_photo_clears_the_page(tmp_path: Path) -> None:
    assert classify(FashionClassifier().eval(), tmp_path, None) == (None, None, None)


def test_file_that_was_not_uploaded_is_not_read(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    photo().save(tmp_path / "photo.jpg")
    (uploads / "link.jpg").symlink_to(tmp_path / "photo.jpg")
    for path in (tmp_path / "photo.jpg", uploads / ".." / "photo.jpg", uploads / "link.jpg"):
        with pytest.raises(gr.Error) as caught:
            classify(FashionClassifier().eval(), uploads, uploaded(path))
        assert caught.value.message == f"my {path.name}: not an uploaded file"


def test_damaged_photo_is_an_error_that_does_not_tell_the_folder(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"hello")
    with pytest.raises(gr.Error) as caught:
        classify(FashionClassifier().eval(), tmp_path, uploaded(tmp_path / "photo.jpg"))
    assert caught.value.message == "my photo.jpg: not an image file"


def test_examples_are_an_image_of_each_class(data_dir: Path, tmp_path: Path) -> None:
    datamodule = FashionMNISTDataModule(str(data_dir), train_size=480, val_size=120)
    files = write_examples(datamodule, tmp_path)
    assert [file.name for file in files] == [f"{label}.png" for label in range(10)]


def test_address_that_cannot_be_served_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other_server:
        used_port = other_server.getsockname()[1]
        for name, port, message in (
            (
                "300.1.2.3",
                None,
                "can't serve at 300.1.2.3: .*give --server_name an address",
            ),
            ("127.0.0.1", used_port, f"can't serve at 127.0.0.1:{used_port}: .*in use"),
        ):
            with pytest.raises(ValueError, match=message):
                serve(FashionClassifier(), FashionMNISTDataModule(), "", name, port)
