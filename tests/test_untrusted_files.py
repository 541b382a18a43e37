"""Files that name or contain code, given to all commands: none of it is imported or called."""

import contextlib
import json
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml
from conftest import TINY, Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import Payload

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.cli import commands
from fmnist_lightning.data.images import ImageError, load_image

EVIL = """
from pathlib import Path
Path("mark").touch()
import torch
from lightning.pytorch import Callback
class Net(torch.nn.Flatten):
    pass
class Spy(Callback):
    pass
def function(*args):
    Path("mark").touch()
"""
NET = {"class_path": "evil.Net"}
TRANSFORMER = "torch.nn.Transformer"  # takes other modules and functions


def network(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"network": {"class_path": class_path, "init_args": init_args}}


# Changes to the hyperparameters of a checkpoint.
HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "an untrusted network": network("evil.Net"),
    "an untrusted optimiser": {"optimizer": NET},
    "an untrusted augmentation": {"augmentation": NET},
    "a function": network("evil.function"),
    "a function of this package": network("fmnist_lightning.runs.runs.remove", run_dir="."),
    "a function of the standard library": network("os.system", command="touch mark"),
    "a package whose name begins like an allowed one": network("fmnist_lightning_evil.Net"),
    "a class as an argument": network(TRANSFORMER, custom_encoder=NET),
    "a function as an argument": network(TRANSFORMER, activation={"class_path": "os.abort"}),
    "a class in a list": network("torch.nn.Sequential", args=[NET]),
    "a class as text": network(TRANSFORMER, activation=json.dumps(NET)),
    "a classifier in a classifier": network("fmnist_lightning.FashionClassifier", network=NET),
    "text in place of a spec": {"network": "evil.Net"},
    "text in place of arguments": {"network": NET | {"init_args": "evil.Net"}},
    "the _instantiator that Lightning once called": {"_instantiator": "evil.function"},
    "dict_kwargs": {"network": {"class_path": TRANSFORMER, "dict_kwargs": {"custom_encoder": NET}}},
    "an optimiser as a network": network("torch.optim.SGD", params=NET),
    "another key": {"evil": NET},
    "a class in place of a number": {"warmup_fraction": NET},
    "all settings as a class": NET,
}
COMMANDS = ("test", "validate", "predict", "export", "fit")


@pytest.fixture
def evil_modules() -> Iterator[None]:
    """Modules that create the file ``mark`` when they are imported."""
    for name in ("evil", "fmnist_lightning_evil"):
        Path(f"{name}.py").write_text(EVIL)
    yield
    for name in ("evil", "fmnist_lightning_evil"):
        assert name not in sys.modules
    assert not Path("mark").exists()


@pytest.fixture
def victim(evil_modules: None, fit: Callable[..., Path]) -> Path:
    """The folder of a run whose checkpoints are attacked."""
    return fit()


@pytest.mark.fault("code_in_settings")
@pytest.mark.usefixtures("evil_modules")
@pytest.mark.parametrize("attack", HYPERPARAMETERS)
def test_hyperparameters_that_name_code_are_refused(attack: str, run: Run) -> None:
    classifier = FashionClassifier()
    content: dict[str, Any] = {
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
        "pytorch-lightning_version": lightning.__version__,
    }
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
    "kind", ["network", "data module", "text as a data module", "list in a data module", "payload"]
)
def test_every_command_refuses_a_checkpoint_that_names_code(
    kind: str, victim: Path, run: Run
) -> None:
    for path in (victim / "checkpoints").iterdir():
        saved = torch.load(path, weights_only=True)
        if kind == "network":
            saved["hyper_parameters"] |= network("evil.Net")
        elif kind == "data module":
            saved["data"] = NET
        elif kind == "text as a data module":
            saved["data"] = "evil.Net"
        elif kind == "list in a data module":
            saved["data"]["init_args"]["data_dir"] = [NET]
        else:
            saved["extra"] = Payload()
        torch.save(saved, path)
    commands = set(COMMANDS)
    if kind in ("data module", "list in a data module"):
        commands -= {"export"}  # which reads no data
    if kind == "list in a data module":
        commands -= {"fit"}  # whose data module is that of its config
    for command in sorted(commands):
        code, out, err = run(command, "--ckpt_path", "last" if command == "fit" else "best.ckpt")
        assert code in (1, 2), f"{command}: {out}"
        assert err.splitlines()[-1].startswith("error: "), err
        assert "Traceback" not in err
        assert not Path("mark").exists(), command
        if kind not in ("payload", "text as a data module") and command != "fit":
            assert "if you trust it, add --trust evil.Net" in err
    if kind == "network":  # a new run takes only the weights
        assert run("fit", "--ckpt_path", "best.ckpt", "--trainer.max_epochs=1")[0] == 0


@pytest.mark.parametrize("text", ["[1", "- 1", "trainer: 1", "!!python/name:evil.Net"])
def test_invalid_config_in_a_run_folder_is_refused(
    text: str, victim: Path, refused: Callable[..., str]
) -> None:
    (victim / "config.yaml").write_text(text)
    refused("fit", "--ckpt_path", "last")


@pytest.mark.usefixtures("victim")
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (network("fmnist_lightning.MLP", hidden_dim=10**12), "do not fit the network"),
        (network("fmnist_lightning.ResNetEnsemble", num_members=10**8), "must be 1 to 100"),
    ],
)
def test_network_that_fills_the_memory_is_not_built(attack: dict[str, Any], message: str) -> None:
    checkpoint = torch.load("best.ckpt", weights_only=True)
    checkpoint["hyper_parameters"] |= attack
    torch.save(checkpoint, "huge.ckpt")
    with pytest.raises(ValueError, match=message):
        load_classifier("huge.ckpt")


@pytest.mark.fault("bad_checkpoint")
@pytest.mark.usefixtures("victim")
def test_compressed_checkpoint_is_not_unpacked() -> None:
    with zipfile.ZipFile("best.ckpt") as old, zipfile.ZipFile("bomb.ckpt", "w") as new:
        for each in old.infolist():
            new.writestr(each.filename, old.read(each), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"bomb\.ckpt is not a checkpoint that can be read safely"):
        load_classifier("bomb.ckpt")


HEADS = [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"RIFF"]
HEADS += [b"P6 9 9 255 "]


@pytest.mark.fault("bad_photo")
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(head=st.sampled_from([b"", *HEADS]), rest=st.binary(max_size=300))
def test_load_image_of_random_bytes_raises_only_image_error(head: bytes, rest: bytes) -> None:
    Path("photo").write_bytes(head + rest)
    try:
        assert load_image("photo").mode == "RGB"
    except ImageError as caught:
        message = str(caught)
        assert message
        assert "Traceback" not in message


VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(min_size=1, max_size=5), st.integers(), max_size=2),
)
KEYS = ["batch_size", "eval_batch_size", "split_seed", "train_size", "val_size"]


@pytest.mark.fault("bad_settings")
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(key=st.sampled_from([*KEYS, "unknown"]), value=VALUES)
def test_random_data_settings_are_valid_or_refused_by_name(
    run: Run, key: str, value: object
) -> None:
    Path("fuzz.yaml").write_text(yaml.safe_dump({"data": {key: value}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(commands.COMMANDS, "fit", lambda *args: 0)  # does not train
        code, _, err = run("fit", "--config", "fuzz.yaml")
    if code:
        assert key in err
        assert "Traceback" not in err
    elif value != {}:  # nothing is set
        assert key in KEYS
        assert isinstance(value, int) or (value is None and key.endswith("_size"))
    assert not Path("runs").exists()
