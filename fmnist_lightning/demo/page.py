"""The page of ``demo``: a photo, its prediction, and what the networks see of it."""

import functools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fmnist_lightning.data.checks import is_fashion_mnist
from fmnist_lightning.data.images import load_image
from fmnist_lightning.models.introspection import feature_maps
from fmnist_lightning.photos.predict import NOT_FOR_PHOTOS, UNSURE, PhotoClassifier, is_for_photos
from fmnist_lightning.photos.preprocessing import preprocess_photo
from fmnist_lightning.training.module import FashionClassifier

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(f"demo needs Gradio: pip install gradio ({error})") from error

EXAMPLES = Path(__file__).parent / "examples"
CSS = """
#photo img { height: 100%; object-fit: contain }  /* enlarges small images */
.gallery-item, .gallery-item * {
  width: 48px !important; min-width: 48px !important; height: 48px !important; object-fit: cover
}
"""
UNSURE_HINT = "**Unsure.** Maybe it is none of the classes, or there is more than one thing to see."
# The fonts are those of the browser: nothing is loaded from elsewhere.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])


@torch.inference_mode()
def classify(classifier: FashionClassifier, path: str | None) -> Iterator[tuple[Any, ...]]:
    """What the page shows of an uploaded file: class probabilities, a hint, two images, a figure.

    The figure has the feature maps, and comes later, as drawing takes long.
    """
    if path is None:
        yield None, "", None, None, None
        return
    if not Path(path).resolve().is_relative_to(Path(gr.utils.get_upload_folder()).resolve()):
        raise gr.Error("not an uploaded file")  # a request can name any other
    photo = preprocess_photo(load_image(path), classifier.classes)
    probabilities = PhotoClassifier(classifier)([photo])[0].tolist()
    middle = photo.views[len(photo.views) // 2]
    shown = (
        dict(zip(classifier.classes, probabilities, strict=True)),
        UNSURE_HINT if max(probabilities) < UNSURE else "",
        Image.fromarray(middle.numpy()).resize((224, 224), Image.Resampling.NEAREST),
        next((Image.fromarray(crop.numpy()) for crop in photo.crops), None),
    )
    yield *shown, None
    from fmnist_lightning import figures  # matplotlib takes long to import

    inputs = classifier.preprocess(middle[None].to(classifier.device))
    layers = feature_maps(classifier.network, inputs)
    yield *shown, figures.plot_feature_maps(layers, "Feature maps") if layers else None


def show_view(title: str, is_visible: bool = True) -> Any:
    """An image for what a network sees."""
    with gr.Column(min_width=140, visible=is_visible):
        gr.Markdown(title)
        return gr.Image(format="png", show_label=False, buttons=[], height=180, container=False)


def build_page(classifier: FashionClassifier, about: str) -> Any:
    """The page, as Gradio's ``Blocks``; ``about`` says which checkpoint it is."""
    is_fashion = is_fashion_mnist(classifier.classes)
    if not is_for_photos(classifier):
        about += f". {NOT_FOR_PHOTOS}."
    title = "Which class is it?"
    text = f"Whatever a photo shows, it gets one of {len(classifier.classes)} classes: "
    # Every 10 minutes, uploads older than an hour are deleted.
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"# {title}\n{text}{', '.join(classifier.classes)}.")
        with gr.Row():
            with gr.Column():
                upload = gr.Image(
                    label="Photo", type="filepath", image_mode=None, height=320, elem_id="photo"
                )
                if is_fashion:
                    files = sorted(map(str, EXAMPLES.glob("*.[jp][pn]g")))
                    label = "Examples: clothing dataset (CC0), Fashion-MNIST (MIT)"
                    gr.Examples(files, upload, examples_per_page=len(files), label=label)
            with gr.Column():
                prediction = gr.Label(num_top_classes=3, label="Prediction")
                hint = gr.Markdown()
                with gr.Row():
                    views = [
                        show_view("The network sees 28x28 pixels:"),
                        show_view("The ImageNet network sees:", is_fashion),
                    ]
        with gr.Accordion("Feature maps of the network", open=False):
            maps = gr.Plot(show_label=False)
        gr.Markdown(about)
        function = functools.partial(classify, classifier)
        upload.change(function, upload, [prediction, hint, *views, maps])
    return page


def serve(
    classifier: FashionClassifier, about: str, server_name: str, server_port: int | None
) -> None:
    """Serves the page until the process is stopped."""
    PhotoClassifier(classifier).setup("predict")
    socket.create_server((server_name, 0)).close()  # raises; Gradio would try for minutes
    build_page(classifier.eval(), about).launch(
        server_name=server_name,
        server_port=server_port,
        share=False,
        theme=THEME,
        css=CSS,
        show_error=True,
        max_file_size="50mb",
    )
