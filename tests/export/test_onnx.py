import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Run

from fmnist_lightning import load_classifier
from fmnist_lightning.data.dataset import CLASSES, read_dataset
from fmnist_lightning.data.download import raw_folder
from fmnist_lightning.export.onnx import export, largest_difference

Fit = Callable[..., Path]


@pytest.mark.parametrize(
    "options",
    [
        (),
        (
            *("--model.network", "fmnist_lightning.ResNetEnsemble", "--model.hflip_tta", "true"),
            *("--model.network.stem_channels", "4", "--model.network.channels", "[4, 8]"),
            *("--trainer.precision", "bf16-mixed"),
        ),
    ],
    ids=["article", "ensemble"],
)
def test_onnxruntime_answers_as_pytorch_does(
    options: tuple[str, ...], fit: Fit, run: Run, data_dir: Path
) -> None:
    fit(*options)
    code, out, err = run("export", "--ckpt_path", "best.ckpt")
    assert code == 0, err
    assert "on 105 test pictures its probabilities differ from PyTorch's by" in out
    session = onnxruntime.InferenceSession("model.onnx")
    (into,), (outof,) = session.get_inputs(), session.get_outputs()
    assert (into.name, into.type, into.shape[1:]) == ("images", "tensor(uint8)", [28, 28])
    assert (outof.name, outof.type, outof.shape[1:]) == ("probabilities", "tensor(float)", [10])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)
    images = read_dataset(raw_folder(data_dir), train=False).images
    for part in (images[:1], images[:7], images):
        (found,) = session.run(None, {"images": part.numpy()})
        answers = load_classifier("best.ckpt").predict(part)
        expected = np.array([list(answer.probabilities.values()) for answer in answers])
        assert np.abs(found - expected).max() < 1e-5


def test_the_comparison_finds_a_difference(fit: Fit, data_dir: Path) -> None:
    fit()
    classifier = load_classifier("best.ckpt")
    export(classifier, Path("model.onnx"))
    images = read_dataset(raw_folder(data_dir), train=False).images
    assert largest_difference(classifier, Path("model.onnx"), images) < 1e-5
    model = onnx.load("model.onnx")
    for weights in model.graph.initializer:
        if weights.name.endswith("bias"):
            weights.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) + 1, weights.name)
            )
            break
    onnx.save(model, "other.onnx")
    assert largest_difference(classifier, Path("other.onnx"), images) > 1e-3
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.mul_(0.5)
    assert largest_difference(classifier, Path("model.onnx"), images) > 1e-3


def test_mistakes_get_one_line(fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fit()
    Path("mine.onnx").write_text("precious")
    code, _, err = run("export", "--ckpt_path", "best.ckpt", "--output", "mine.onnx")
    assert code == 1
    assert "mine.onnx is there already" in err
    assert Path("mine.onnx").read_text() == "precious"
    assert run("export", "--ckpt_path", "gone.ckpt")[0] == 1
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, err = run("export", "--ckpt_path", "best.ckpt")
    assert code == 1
    assert "export needs onnxscript" in err
    assert "Traceback" not in err
    assert not Path("model.onnx").exists()
