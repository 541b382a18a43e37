import json
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.export.onnx import export_and_compare, export_onnx, max_abs_diff

IMAGES = torch.randint(
    0, 256, (105, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.mark.parametrize(
    "options",
    [
        (),
        pytest.param(
            (
                *("--model.network", "fmnist_lightning.ResNetEnsemble"),
                *("--model.hflip_tta", "true", "--model.translation_tta", "true"),
                *("--trainer.precision", "bf16-mixed"),
                *("--model.network.stem_channels", "4", "--model.network.channels", "[4, 8]"),
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["article", "ensemble"],
)
def test_onnxruntime_predicts_the_same_as_pytorch(options, fit, run):
    fit(*options)
    code, out, err = run("export", "--ckpt_path", "best.ckpt", "--output", "new/model.onnx")
    assert code == 0, err
    assert "its probabilities differ from PyTorch's by" in out
    session = onnxruntime.InferenceSession("new/model.onnx")
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.type, source.shape[1:]) == ("images", "tensor(uint8)", [28, 28])
    assert (target.name, target.type, target.shape[1:]) == ("probabilities", "tensor(float)", [10])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)
    classifier = load_classifier("best.ckpt")
    for batch in (IMAGES[:1], IMAGES[:7], IMAGES):
        (probabilities,) = session.run(None, {"images": batch.numpy()})
        with torch.inference_mode():
            expected = classifier.probabilities(batch)
        assert (torch.from_numpy(probabilities) - expected).abs().max() < 1e-5


def test_class_names_are_those_of_the_classifier():
    names = ["Süß", "靴", *"abcdefgh"]
    export_onnx(FashionClassifier(classes=names), Path("model.onnx"))
    entries = {entry.key: entry.value for entry in onnx.load("model.onnx").metadata_props}
    assert json.loads(entries["classes"]) == names
    assert "stretched" in entries["preparation"]  # as own images


def test_comparison_finds_a_difference(monkeypatch):
    classifier, path = FashionClassifier(), Path("model.onnx")
    export_onnx(classifier, path)
    assert max_abs_diff(classifier, path, IMAGES) < 1e-5
    exported = path.read_bytes()
    monkeypatch.setattr(
        f"{export_onnx.__module__}.export_onnx", lambda *args: path.write_bytes(exported)
    )
    for value, difference in ((1.0, ".*"), (torch.nan, "nan")):
        path.unlink()
        classifier.network.get_parameter("features.0.bias").data.fill_(value)
        message = rf"^model\.onnx differs by {difference}, more than 0\.0001: do not use"
        with pytest.raises(ValueError, match=message):
            export_and_compare(classifier, path)


def test_wrong_options_give_one_error_line(fit, run, monkeypatch):
    fit()
    Path("mine.onnx").write_text("precious")
    code, _, err = run("export", "--ckpt_path", "best.ckpt", "--output", "mine.onnx")
    assert code == 1
    assert "mine.onnx exists already: remove it, or give another --output" in err
    assert Path("mine.onnx").read_text() == "precious"
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "fmnist_lightning.export.onnx")
    code, _, err = run("export", "--ckpt_path", "best.ckpt")
    assert code == 1
    assert "export needs more packages: pip install onnx" in err
    assert "Traceback" not in err
    assert not Path("model.onnx").exists()
