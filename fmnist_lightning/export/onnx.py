"""Export of a classifier as an ONNX file, which runs without PyTorch."""

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmnist_lightning.data.checks import is_fashion_mnist
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write
from fmnist_lightning.training.module import FashionClassifier

try:
    import onnxruntime
    import onnxscript  # noqa: F401  # PyTorch's exporter needs it
except ImportError as error:
    packages = "onnx onnxruntime onnxscript"
    raise ImportError(f"export needs more packages: pip install {packages} ({error})") from error

MAX_ABS_DIFF = 1e-4  # of a probability; float32 with other kernels differs by about 1e-6

FASHION_MNIST = "a light garment on black, as in Fashion-MNIST"
OWN_IMAGES = "upright, white where transparent, grayscale (ITU-R 601), stretched (bicubic)"


def export_onnx(classifier: FashionClassifier, path: Path) -> None:
    """Writes a classifier, which has to be on the CPU, as ONNX.

    The file has one input, ``images``, uint8, shape (N, 28, 28), and one output, ``probabilities``,
    float32, shape (N, C), for any N. ``classes`` in its metadata is a JSON list of the class names,
    and ``preparation`` says how an image becomes 28x28 pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern PyTorch's own code
        program = torch.onnx.export(
            nn.Sequential(classifier.float().eval(), nn.Softmax(dim=1)),
            (torch.zeros(2, 28, 28, dtype=torch.uint8),),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("num_images")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["classes"] = json.dumps(classifier.classes)
    preparation = FASHION_MNIST if is_fashion_mnist(classifier.classes) else OWN_IMAGES
    program.model.metadata_props["preparation"] = preparation
    with atomic_write(path) as stream:
        stream.write(program.model_proto.SerializeToString())


@torch.inference_mode()
def max_abs_diff(classifier: FashionClassifier, path: Path, images: Tensor) -> float:
    """Largest difference of a probability between onnxruntime and PyTorch, on uint8 images."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {"images": images.numpy()})
    return float((torch.from_numpy(actual) - classifier.probabilities(images)).abs().max())


def export_and_compare(classifier: FashionClassifier, path: Path) -> None:
    """Exports a classifier, and prints how much its probabilities of random images differ.

    Raises ValueError if the file exists, or the difference is too large.
    """
    if path.exists():
        raise ValueError(f"{path} exists already: remove it, or give another --output")
    path.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(classifier, path)
    pixels = F.interpolate(torch.rand(500, 1, 7, 7), (28, 28), mode="bilinear")  # smooth shapes
    difference = max_abs_diff(classifier, path, (255 * pixels[:, 0]).to(torch.uint8))
    if not difference <= MAX_ABS_DIFF:  # NaN, too
        raise ValueError(
            f"{path} differs by {difference:.1e}, more than {MAX_ABS_DIFF}: do not use it"
        )
    print_line(f"{path}: its probabilities differ from PyTorch's by {difference:.1e} at most")
