"""The page of ``demo``: a photo, its prediction, the input and feature maps of the network."""

import functools
import socket
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image

from fmnist_lightning.data.checks import is_fashion_mnist
from fmnist_lightning.data.datamodule import read_test_images
from fmnist_lightning.data.images import load_image
from fmnist_lightning.models.introspection import feature_maps
from fmnist_lightning.photos.imagenet import imagenet_network
from fmnist_lightning.photos.predict import NOT_FOR_PHOTOS, PhotoClassifier, is_for_photos
from fmnist_lightning.photos.preprocessing import import_opencv, preprocess_photo
from fmnist_lightning.training.module import FashionClassifier

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(f"demo needs Gradio: pip install gradio ({error})") from error

CSS = "#photo img { height: 100%; object-fit: contain }"  # enlarges small images
# The fonts are those of the browser: nothing is loaded from elsewhere.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])


@torch.inference_mode()
def classify(
    classifier: FashionClassifier, path: str | None
) -> tuple[dict[str, float] | None, Image.Image | None, Any]:
    """What the page shows of an uploaded file: class probabilities, a view, its feature maps."""
    from fmnist_lightning import figures  # matplotlib takes long to import

    if path is None:
        return None, None, None
    if not Path(path).resolve().is_relative_to(Path(gr.utils.get_upload_folder()).resolve()):
        raise gr.Error("not an uploaded file")  # a request can name any file
    photo = preprocess_photo(load_image(path), classifier.classes)
    probabilities = PhotoClassifier(classifier)([photo])[0].tolist()
    view = photo.views[len(photo.views) // 2]
    inputs = classifier.preprocess(view[None].to(classifier.device))
    layers = feature_maps(classifier.network, inputs)
    return (
        dict(zip(classifier.classes, probabilities, strict=True)),
        Image.fromarray(view.numpy()).resize((336, 336), Image.Resampling.NEAREST),
        figures.plot_feature_maps(layers, "Feature maps") if layers else None,
    )


def write_examples(datamodule: LightningDataModule, folder: Path) -> list[str]:
    """Writes the first ten test images as files; none where the data of the run are not here."""
    images = read_test_images(datamodule)[:10]
    files = [str(folder / f"{index}.png") for index in range(len(images))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image.numpy()).save(file)
    return files


def serve(
    classifier: FashionClassifier,
    datamodule: LightningDataModule,
    about: str,
    server_name: str,
    server_port: int | None,
) -> None:
    """Serves the page until the process is stopped; ``about`` is Markdown."""
    if is_fashion_mnist(classifier.classes):
        import_opencv()
        imagenet_network()  # like OpenCV, of the extra `photos`
    socket.create_server((server_name, 0)).close()  # raises; Gradio would try for minutes
    if not is_for_photos(classifier):
        about += f"\n\n{NOT_FOR_PHOTOS}"
    with tempfile.TemporaryDirectory() as folder:
        page = gr.Interface(
            functools.partial(classify, classifier.eval()),
            gr.Image(label="Photo", type="filepath", image_mode=None, height=380, elem_id="photo"),
            [
                gr.Label(num_top_classes=3, label="Prediction"),
                gr.Image(format="png", label="What the network sees: 28x28 pixels", buttons=[]),
                gr.Plot(show_label=False),
            ],
            write_examples(datamodule, Path(folder)) or None,
            live=True,
            title="Which class is it?",
            description=about,
            clear_btn=None,
            flagging_mode="never",
            cache_examples=False,
            analytics_enabled=False,
            delete_cache=(600, 3600),  # every 10 minutes, uploads older than an hour, in seconds
        )
        page.launch(
            server_name=server_name,
            server_port=server_port,
            share=False,
            theme=THEME,
            css=CSS,
            show_error=True,
            max_file_size="50mb",
        )
