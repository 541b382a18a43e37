"""A trained classifier as an ONNX file, which needs no PyTorch."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write
from fmnist_lightning.training.module import FashionClassifier

MAX_DIFF = 1e-4  # of a probability; float32 with other kernels differs by 1e-6


class OnnxWrapper(nn.Module):
    """The exported function: uint8 images, shape (N, 28, 28), to probabilities, shape (N, C)."""

    def __init__(self, classifier: FashionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities, float32, shape (N, C)."""
        logits: Tensor = self.classifier(images)
        return logits.softmax(dim=1)


def export_and_compare(classifier: FashionClassifier, images: Tensor, path: Path) -> None:
    """Writes a new ONNX file, runs it with onnxruntime, and prints how it differs from PyTorch.

    Args:
        classifier: A trained one, on the CPU.
        images: What to compare on, uint8, shape (N, 28, 28).
        path: The file to write.

    Raises:
        ValueError: If the file exists, its folder does not, or the difference is too large.
        ImportError: If a package of the extra ``export`` is not installed.
    """
    if path.exists():
        raise ValueError(f"{path} exists already: remove it, or give another --output")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} for --output {path}")
    export_onnx(classifier, path)
    diff = max_abs_diff(classifier, path, images)
    print_line(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB; on {len(images):,} test images its "
        f"probabilities differ from PyTorch's by {diff:.1e} at most"
    )
    if diff > MAX_DIFF:
        raise ValueError(f"{path} differs by {diff:.1e}, more than {MAX_DIFF}: do not use it")


def export_onnx(classifier: FashionClassifier, path: Path) -> None:
    """Writes a classifier as ONNX.

    The file has one input, ``images``, uint8, shape (N, 28, 28), and one output, ``probabilities``,
    float32, shape (N, C), for any N; ``classes`` in its metadata is a JSON list of their names.

    Args:
        classifier: A trained one, on the CPU; it is left in float32 and evaluation mode.
        path: The file to write, or to replace.
    """
    onnx = _import("onnx")
    _import("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's exporter warns about itself
        program = torch.onnx.export(
            OnnxWrapper(classifier.float().eval()),
            (torch.zeros(2, 28, 28, dtype=torch.uint8),),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("num_images")}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "classes", json.dumps(classifier.classes)
    onnx.checker.check_model(model, full_check=True)
    with atomic_write(path) as stream:
        stream.write(model.SerializeToString())


@torch.inference_mode()
def max_abs_diff(classifier: FashionClassifier, path: Path, images: Tensor) -> float:
    """The largest difference, 0 to 1, of a probability in PyTorch and in onnxruntime.

    Args:
        classifier: The exported one.
        path: The ONNX file.
        images: uint8, shape (N, 28, 28).
    """
    session = _import("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in torch.split(images, 500):
        expected = OnnxWrapper(classifier)(batch)
        (found,) = session.run(None, {"images": batch.numpy()})
        largest = max(largest, float((expected - torch.from_numpy(found)).abs().max()))
    return largest


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(
            f"export needs {name}, which is not installed: pip install onnx onnxscript "
            "onnxruntime, which are this project's extra `export`"
        ) from error
