"""``python -m fmnist_lightning export``: a checkpoint as an ONNX file, which needs no PyTorch."""

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmnist_lightning.data.dataset import CLASSES, read_dataset
from fmnist_lightning.data.download import fetch, raw_folder
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write
from fmnist_lightning.training.checkpoint import load_classifier
from fmnist_lightning.training.module import FashionClassifier

LARGEST_DIFFERENCE = 1e-4  # of a probability; float32 on other kernels differs by 1e-6


class Exported(nn.Module):
    """What the file does: pictures as they are in the data set to probabilities."""

    def __init__(self, classifier: FashionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Pictures, uint8, shape (N, 28, 28), to probabilities, float32, shape (N, 10)."""
        logits: Tensor = self.classifier(images)
        return logits.softmax(dim=1)


def export(classifier: FashionClassifier, path: Path) -> None:
    """Writes a classifier as ONNX.

    The file has one input, ``images``, uint8, shape (N, 28, 28), and one output, ``probabilities``,
    float32, shape (N, 10), for any N; ``classes`` in its metadata is a JSON list of their names.

    Args:
        classifier: A trained one, on the CPU.
        path: The file to write.

    Raises:
        ImportError: If a package of the extra ``export`` is not installed.
    """
    onnx = _import("onnx")
    _import("onnxscript")
    images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's exporter warns of itself
        program = torch.onnx.export(
            Exported(classifier.float().eval()),
            (images,),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("num_images")}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "classes", json.dumps(CLASSES)
    onnx.checker.check_model(model, full_check=True)
    with atomic_write(path) as stream:
        stream.write(model.SerializeToString())


def largest_difference(classifier: FashionClassifier, path: Path, images: Tensor) -> float:
    """Compares the file, as onnxruntime runs it, with PyTorch.

    Args:
        classifier: What was exported.
        path: The file.
        images: Pictures, uint8, shape (N, 28, 28).

    Returns:
        The largest difference of a probability.

    Raises:
        ImportError: If onnxruntime is not installed.
    """
    session = _import("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    largest = 0.0
    for part in torch.split(images, 500):
        with torch.inference_mode():
            ours = Exported(classifier)(part)
        (theirs,) = session.run(None, {"images": part.numpy()})
        largest = max(largest, float((ours - torch.from_numpy(theirs)).abs().max()))
    return largest


def main(args: Sequence[str]) -> None:
    """Runs the subcommand; ``--help`` explains it.

    Raises:
        argparse.ArgumentError: If the command line is wrong.
        ValueError: If the checkpoint can't be used, the file is there already, or it answers
            otherwise than PyTorch.
        ImportError: If a package of the extra ``export`` is not installed.
        DataError: If the test pictures to compare with can't be had.
    """
    parser = argparse.ArgumentParser(
        prog="fmnist_lightning export",
        exit_on_error=False,
        description="Writes a checkpoint as an ONNX file: uint8 pictures in, probabilities out. "
        "Runs it with onnxruntime on the test pictures, and compares the answers.",
    )
    parser.add_argument("--ckpt_path", required=True, metavar="CKPT", help="the checkpoint")
    parser.add_argument(
        "--output", default="model.onnx", type=Path, help="the file to write (%(default)s)"
    )
    parser.add_argument("--data_dir", default="data", help="where the data is (%(default)s)")
    parser.add_argument(
        "--trust", nargs="+", default=[], metavar="CLASS", help="classes it may name, my.Network"
    )
    asked = parser.parse_args(args)
    classifier = load_classifier(asked.ckpt_path, asked.trust)
    if asked.output.exists():
        raise ValueError(f"{asked.output} is there already: remove it, or give another --output")
    if not asked.output.parent.is_dir():
        raise ValueError(f"there is no folder {asked.output.parent} for --output {asked.output}")
    fetch(asked.data_dir)
    export(classifier, asked.output)
    images = read_dataset(raw_folder(asked.data_dir), train=False).images
    difference = largest_difference(classifier, asked.output, images)
    size = asked.output.stat().st_size / 1e6
    print_line(
        f"{asked.output}: {size:.1f} MB; on {len(images):,} test pictures its probabilities "
        f"differ from PyTorch's by {difference:.1e} at most"
    )
    if difference > LARGEST_DIFFERENCE:
        raise ValueError(f"that is more than {LARGEST_DIFFERENCE}: don't trust {asked.output}")


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(
            f"export needs {name}, which is not installed: pip install onnx onnxscript "
            "onnxruntime, which are this project's extra `export`"
        ) from error
