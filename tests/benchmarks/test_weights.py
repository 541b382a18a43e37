import hashlib
import json
from pathlib import Path

import pytest
import torch
import weights

from fmnist_lightning import FashionMNISTDataModule, create_trainer, load_classifier
from fmnist_lightning.data.download import DataError, download
from fmnist_lightning.runs.checkpoint import WEIGHTS, checkpoint_names, read_checkpoint

SAVED = json.loads(weights.SAVED.read_text())


def test_files_of_the_package_are_those_of_the_table():
    files = {path.stem: path.read_bytes() for path in WEIGHTS.iterdir()}
    assert checkpoint_names() == sorted(SAVED) == sorted(files)
    for name, content in files.items():
        assert hashlib.sha256(content).hexdigest() == SAVED[name]["sha256"]
        assert len(content) <= 3 * 2**20
        change = SAVED[name]["float32_accuracy"] - SAVED[name]["validate"]["accuracy"]
        assert change <= 0.0002
    assert sum(map(len, files.values())) <= 9 * 2**20


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", weights.ROWS)
def test_accuracy_of_the_table_is_that_of_the_file(name):
    try:
        download(Path("data"))
    except DataError as error:
        pytest.skip(str(error))
    trainer = create_trainer(logger=False, enable_checkpointing=False)
    (metrics,) = trainer.test(load_classifier(name), FashionMNISTDataModule(), verbose=False)
    # Processors round differently.
    assert metrics["test/acc"] == pytest.approx(SAVED[name]["test"]["accuracy"], abs=0.0003)


def test_packed_checkpoint_evaluates_but_says_nothing_of_its_run(fit, run, tmp_path):
    fit()
    packed = tmp_path / "weights" / "small.ckpt"
    weights.pack(Path("best.ckpt"), packed)
    content = read_checkpoint(packed)
    assert str(tmp_path) not in str(content)
    assert content["data"]["init_args"]["data_dir"] == "data"
    floats = [value for value in content["state_dict"].values() if value.is_floating_point()]
    assert {value.dtype for value in floats} == {torch.float16}
    lines = []
    for name in ("best.ckpt", str(packed)):
        code, out, err = run("test", "--ckpt_path", name, "--data.data_dir", "data")
        assert code == 0, err
        lines.append(out.splitlines()[-11:])
    assert lines[0] == lines[1]
