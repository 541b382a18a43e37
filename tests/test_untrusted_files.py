"""Checkpoints that name code, given to all commands: none of it is imported or called."""

import contextlib
import sys
import warnings
from pathlib import Path

import lightning
import pytest
import torch
from conftest import TINY

from fmnist_lightning import FashionClassifier, load_classifier

EVIL = """
from pathlib import Path
Path("mark").touch()
import torch
class Net(torch.nn.Flatten):
    pass
"""
NET = {"class_path": "evil.Net", "init_args": {}}
# Places in the hyperparameters of a checkpoint; test_specs.py has more ways to name a class.
HYPERPARAMETERS = {
    "network": {"network": NET},
    "optimizer": {"optimizer": NET},
    "augmentation": {"augmentation": NET},
    "an argument": {
        "network": {"class_path": "torch.nn.Transformer", "init_args": {"d_model": NET}}
    },
    "text in place of a spec": {"network": "evil.Net"},
    "another key": {"evil": NET},
    "a class in place of a number": {"warmup_fraction": NET},
    "all settings as a class": NET,
}


@pytest.fixture(autouse=True)
def _evil_module():
    """A module that creates the file ``mark`` when it is imported, which no test may do."""
    Path("evil.py").write_text(EVIL)
    yield
    assert "evil" not in sys.modules
    assert not Path("mark").exists()


@pytest.mark.fault("code_in_settings")
@pytest.mark.parametrize("attack", HYPERPARAMETERS)
def test_hyperparameters_that_name_code_are_refused(attack, run):
    classifier = FashionClassifier()
    content = {
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
        "pytorch-lightning_version": lightning.__version__,
    }
    content["hyper_parameters"]["_instantiator"] = "evil.Net"  # which Lightning once called
    torch.save(content, "some.ckpt")
    load_classifier("some.ckpt")
    content["hyper_parameters"] |= HYPERPARAMETERS[attack]
    torch.save(content, "some.ckpt")
    with pytest.raises(ValueError):  # noqa: PT011 (the message depends on the attack)
        load_classifier("some.ckpt")
    # A new run takes only the weights.
    assert run("fit", *TINY, "--ckpt_path", "some.ckpt", "--trainer.fast_dev_run", "true")[0] == 0
    # Lightning's own method drops unknown keys, and builds classes that are allowed.
    with contextlib.suppress(ValueError, TypeError, RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FashionClassifier.load_from_checkpoint("some.ckpt")


@pytest.mark.fault("code_in_settings")
@pytest.mark.parametrize(
    ("key", "value", "commands"),
    [
        ("hyper_parameters", {"network": NET}, ["test", "validate", "predict", "export"]),
        ("data", NET, ["test", "validate", "predict"]),  # export reads no data
    ],
)
def test_every_command_refuses_a_checkpoint_that_names_code(
    key, value, commands, fit, refused, run
):
    for path in (fit() / "checkpoints").iterdir():
        saved = torch.load(path, weights_only=True)
        saved[key] |= value
        torch.save(saved, path)
    for command in commands:
        message = refused(command, "--ckpt_path", "best.ckpt")
        assert "if you trust it, add --trust evil.Net" in message
    code, _, err = run("fit", "--ckpt_path", "last")
    assert code == 1
    assert "Traceback" not in err
