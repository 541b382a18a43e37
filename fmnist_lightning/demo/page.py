"""The page of ``demo``: a photo, the input and feature maps of the network, its prediction."""

import functools
import os
import socket
import tempfile
import threading
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
from fmnist_lightning.photos.predict import NOT_FOR_PHOTOS, PhotoClassifier, is_for_photos
from fmnist_lightning.photos.preprocessing import import_opencv, preprocess_photo
from fmnist_lightning.training.module import FashionClassifier

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(
        f"demo needs Gradio: pip install gradio (the extra `demo`; {error})"
    ) from error

HEIGHT = 460  # pixels, of photo and view
SCALE = 12  # the 28x28 image is shown larger by this factor
# The fonts are those of the browser: nothing is loaded from elsewhere.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
CSS = """
.image-container { padding-top: 2rem }  /* or the label would cover the image */
#photo img { width: 100%; height: 100%; object-fit: contain }  /* enlarges small images */
#view img { image-rendering: pixelated }
"""


@torch.inference_mode()
def classify(
    classifier: FashionClassifier, uploads: Path, file: Mapping[str, Any] | None
) -> tuple[dict[str, float] | None, Image.Image | None, Any]:
    """What the page shows of an image file in the folder ``uploads``; nothing without one.

    Returns:
        The probability of each class by name; the image that the network sees, of a photo the one
        in the middle of its views; and the feature maps of this image.

    Raises:
        gr.Error: If the file can't be read; the page shows it.
    """
    from fmnist_lightning import figures  # matplotlib takes long to import

    if file is None:
        return None, None, None
    path = str(file["path"])
    try:
        # A request can name any file. Gradio checks only those that the request calls FileData.
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
    classifier: FashionClassifier, uploads: Path, about: str, examples: Sequence[Path]
) -> gr.Blocks:
    """The page; ``about`` is Markdown, ``examples`` are image files that one click chooses."""
    every_10_minutes, older_than_1_hour = 600, 3600
    with gr.Blocks(
        title="fmnist_lightning",
        analytics_enabled=False,
        delete_cache=(every_10_minutes, older_than_1_hour),
    ) as page:
        gr.Markdown(f"# Which garment is it?\n{about}")
        with gr.Row():
            photo = gr.Image(label="Photo: drop, paste or take one", elem_id="photo", height=HEIGHT)
            classes = gr.Label(label="Prediction", num_top_classes=10)
            view = gr.Image(
                label="What the network sees: 28x28 pixels",
                elem_id="view",
                format="png",
                height=HEIGHT,
                interactive=False,
                buttons=[],
            )
        if examples:
            gr.Examples(list(map(str, examples)), photo, label="Images of the test set")
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
    try:  # Gradio would try for minutes
        socket.create_server((server_name, server_port or 0)).close()
    except OSError as error:
        address = f"{server_name}:{server_port}" if server_port else server_name
        raise ValueError(
            f"can't serve at {address}: {error}; give --server_name an address of this machine, "
            "and --server_port a free port"
        ) from error
    if not is_for_photos(classifier):
        about += f"\n\n{NOT_FOR_PHOTOS}"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads are nobody else's, and end with the server
        try:
            examples = write_examples(datamodule, Path(folder))
        except (DataError, ValueError, OSError) as error:  # the data of the run are not here
            print_line(f"The page has no examples: {str(error).splitlines()[0]}")
            examples = []
        page = build_page(classifier.eval(), Path(folder), about, examples)
        _, url, _ = page.launch(
            server_name=server_name,
            server_port=server_port or None,  # None is the first free one
            share=False,
            theme=THEME,
            css=CSS,
            footer_links=["gradio"],
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,  # Gradio would end Ctrl+C with exit code 0
            max_file_size="50mb",
        )
        print_line(f"Open {url} in a browser; Ctrl+C stops the server")
        threading.Event().wait()
