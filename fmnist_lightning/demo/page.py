"""The page of ``demo``: a photo, the input and feature maps of the network, its prediction."""

import functools
import os
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from fmnist_lightning.data.download import DataError
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.models.introspection import feature_maps
from fmnist_lightning.photos.imagenet import imagenet_network
from fmnist_lightning.photos.images import PhotoError, load_image
from fmnist_lightning.photos.predict import PhotoClassifier
from fmnist_lightning.photos.preprocessing import import_opencv, preprocess_photo
from fmnist_lightning.photos.report import NOT_FOR_PHOTOS, is_for_photos
from fmnist_lightning.training.module import FashionClassifier

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(
        f"demo needs Gradio: pip install gradio (the extra `demo`; {error})"
    ) from error

HEIGHT = 460  # pixels, of photo and view
SCALE = 12  # the 28x28 image is shown larger by this factor
# Nothing is loaded from elsewhere: no fonts, no statistics.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
CSS = """
.image-container { padding-top: 2rem }  /* or the label would cover the image */
#photo img { width: 100%; height: 100%; object-fit: contain }  /* enlarges small images */
#view img { image-rendering: pixelated }
"""
Shown = tuple[dict[str, float] | None, Image.Image | None, Any]


@torch.inference_mode()
def classify(classifier: FashionClassifier, uploads: Path, file: Mapping[str, Any] | None) -> Shown:
    """What the page shows of an image file in the folder ``uploads``; nothing without one.

    Returns:
        The probability of each class by name; the image that the network sees, of a photo the one
        in the middle of its views; and the feature maps of this image.

    Raises:
        gr.Error: If the file can't be read; the page shows it.
    """
    from fmnist_lightning import figures  # matplotlib takes long to import

    if not file or not file["path"]:
        return None, None, None
    path = file["path"]
    try:
        # A request can name any file, and Gradio does not check all of them.
        if not Path(path).resolve().is_relative_to(uploads.resolve()):
            raise PhotoError(f"{path}: not an uploaded file")
        photo = preprocess_photo(load_image(path))
    except PhotoError as error:
        message = str(error).replace(path, file["orig_name"] or "image")
        raise gr.Error(message, print_exception=False) from error
    probabilities = PhotoClassifier(classifier)([photo])[0].tolist()
    view = photo.views[len(photo.views) // 2]
    inputs = classifier.preprocess(view[None].to(classifier.device))
    layers = feature_maps(classifier.network, inputs)
    return (
        dict(zip(classifier.classes, probabilities, strict=True)),
        to_pil_image(view.repeat_interleave(SCALE, 0).repeat_interleave(SCALE, 1)),
        figures.plot_feature_maps(layers, "Feature maps") if layers else None,
    )


def build_page(
    classifier: FashionClassifier, uploads: Path, about: str, examples: Sequence[Path] = ()
) -> Any:
    """The page, a ``gradio.Blocks``.

    Args:
        classifier: In evaluation mode.
        uploads: The folder of Gradio's files.
        about: What to say of it, in Markdown.
        examples: Image files that one click chooses.
    """
    with gr.Blocks(
        title="fmnist_lightning", analytics_enabled=False, delete_cache=(600, 3600)
    ) as page:
        gr.Markdown(f"# Which garment is it?\n{about}")
        with gr.Row():
            photo = gr.Image(
                label="Photo: drop, paste or take one",
                sources=["upload", "webcam", "clipboard"],
                elem_id="photo",
                height=HEIGHT,
            )
            classes = gr.Label(label="Prediction", num_top_classes=10)
            view = gr.Image(
                label="What the network sees: 28x28 pixels",
                format="png",
                height=HEIGHT,
                interactive=False,
                buttons=[],
                elem_id="view",
            )
        if examples:
            gr.Examples([[str(path)] for path in examples], photo, label="Images of the test set")
        with gr.Accordion("What its layers compute"):
            maps = gr.Plot(label="Feature maps", show_label=False)
        photo.change(
            functools.partial(classify, classifier, uploads),
            photo,
            [classes, view, maps],
            preprocess=False,  # the file as it is: nothing is converted, and errors are ours
            api_visibility="private",
        )
    return page


def write_examples(datamodule: LightningDataModule, folder: Path) -> list[Path]:
    """Writes the first test image of each class as a file, and returns the files."""
    datamodule.prepare_data()
    datamodule.setup("test")
    files: dict[int, Path] = {}
    for images, labels in datamodule.test_dataloader():
        for image, label in zip(images.cpu(), labels.tolist(), strict=True):
            if label not in files:
                files[label] = folder / f"{label}.png"
                Image.fromarray(image.numpy()).save(files[label])
    return [files[label] for label in sorted(files)]


def serve(
    classifier: FashionClassifier,
    datamodule: LightningDataModule,
    about: str,
    server_name: str,
    server_port: int | None,
) -> None:
    """Serves the page until the process is stopped.

    Raises:
        ValueError: If it can't be served at this address.
    """
    import_opencv()
    imagenet_network()  # like OpenCV, of the extra `photos`
    check_address(server_name, server_port)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads are nobody else's, and end with the server
        try:
            examples = write_examples(datamodule, Path(folder))
        except (DataError, ValueError, OSError) as error:  # the data of the run are not here
            print_line(f"The page has no examples: {str(error).splitlines()[0]}")
            examples = []
        if not is_for_photos(classifier):
            about += f"\n\n{NOT_FOR_PHOTOS}"
        page = build_page(classifier.eval(), Path(folder), about, examples)
        for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it runs
            local = [os.environ.get(name), "127.0.0.1", "localhost", server_name]
            os.environ[name] = ",".join(filter(None, local))
        _, url, _ = page.launch(
            server_name=server_name,
            server_port=server_port,
            share=False,
            enable_monitoring=False,
            theme=THEME,
            css=CSS,
            footer_links=["gradio"],
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            max_file_size="50mb",
        )
        print_line(f"Open {url} in a browser; Ctrl+C stops the server")
        try:
            while True:
                time.sleep(1)
        finally:
            page.close(verbose=False)


def check_address(server_name: str, server_port: int | None) -> None:
    """Raises ValueError where a server can't listen; Gradio would try for minutes."""
    try:
        if server_port == 0:
            raise OSError("no port to open in a browser")
        socket.create_server((server_name, server_port or 0)).close()
    except (OSError, OverflowError) as error:
        port = "" if server_port is None else f" --server_port {server_port}"
        raise ValueError(
            f"can't serve at --server_name {server_name}{port}: {error}; give an address of this "
            "machine and a free port, 1 to 65535"
        ) from error
