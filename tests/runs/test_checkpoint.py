import functools
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from samples import Payload, tiny_data
from torch import nn

from fmnist_lightning import MLP, FashionClassifier, load_classifier
from fmnist_lightning.runs.checkpoint import AtomicCheckpointIO, Checkpoint, read_checkpoint


def checkpoint_of(classifier):
    return {
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
    }


@pytest.fixture
def checkpoint():
    path = Path("some.ckpt")
    torch.save(checkpoint_of(FashionClassifier(network=functools.partial(MLP, hidden_dim=4))), path)
    return path


def test_load_classifier_restores_network_and_weights(fit):
    folder = fit("--model.network", "fmnist_lightning.MLP", "--model.network.hidden_dim", "9")
    classifier = load_classifier("best.ckpt")
    assert isinstance(classifier.network, MLP)
    assert classifier.network.features[1].out_features == 9
    assert not classifier.training
    saved = read_checkpoint(folder / "checkpoints" / "best.ckpt")["state_dict"]
    lightnings_own = FashionClassifier.load_from_checkpoint("best.ckpt")
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, saved[name])
        assert torch.equal(value, lightnings_own.state_dict()[name])


def test_script_and_command_line_save_the_same_hyperparameters(fit):
    fit("--trainer.max_epochs=1")
    saved = read_checkpoint("best.ckpt")["hyper_parameters"]
    assert saved == dict(FashionClassifier().hparams)  # so that a script can resume the run


class Smoothed(FashionClassifier):
    def __init__(self, smoothing, **kwargs):
        super().__init__(**kwargs)
        self.save_hyperparameters("smoothing")


def test_hyperparameters_that_a_subclass_has_added_are_left_out():
    torch.save(checkpoint_of(Smoothed(0.1, network=MLP)), "some.ckpt")
    assert isinstance(load_classifier("some.ckpt").network, MLP)


def test_bf16_checkpoint_loads_as_float32():
    torch.save(checkpoint_of(FashionClassifier().bfloat16()), "some.ckpt")
    assert {weight.dtype for weight in load_classifier("some.ckpt").parameters()} == {torch.float32}


@pytest.mark.fault("bad_checkpoint")
@pytest.mark.parametrize(
    # The second is not fetched; the third is a file of the package, but no name.
    "name",
    ["gone.ckpt", "http://127.0.0.1:9/x.ckpt", "../weights/fast"],
)
def test_missing_file_is_refused(name):
    with pytest.raises(ValueError, match=f"no checkpoint file {name}"):
        read_checkpoint(name)


@pytest.mark.fault("bad_checkpoint")
@pytest.mark.parametrize("text", ["export A=1", "test", "a", "R", ".", "\x80", ""])
def test_file_of_another_format_is_refused(text):
    Path("some.ckpt").write_text(text)  # some are instructions to unpickle
    with pytest.raises(ValueError, match=r"some\.ckpt is not a checkpoint"):
        read_checkpoint("some.ckpt")


def test_file_of_the_name_of_a_checkpoint_of_the_package_wins(fit, run):
    Path("fast").mkdir()  # but no folder
    assert type(load_classifier("fast").network).__name__ == "SmallResNet"
    assert "fast: of this package, SmallResNet" in run("test", "--ckpt_path", "fast")[1]
    assert len(list(Path().glob("runs/*/test.json"))) == 1  # a checkpoint without a run gets one
    Path("fast").rmdir()
    fit()
    shutil.copy("best.ckpt", "fast")
    assert type(load_classifier("fast").network).__name__ == "ArticleCNN"
    assert "fast: runs/" in run("test", "--ckpt_path", "fast")[1]


def test_broken_symlink_is_refused():
    Path("best.ckpt").symlink_to("runs/deleted/checkpoints/best.ckpt")
    with pytest.raises(ValueError, match=r"best\.ckpt is a broken symlink to runs/deleted"):
        read_checkpoint("best.ckpt")


@pytest.mark.fault("bad_checkpoint")
def test_damaged_or_compressed_file_is_refused(checkpoint):
    content = checkpoint.read_bytes()
    middle = len(content) // 2
    one_bit = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile("bomb.ckpt", "w") as new:
        for each in old.infolist():
            new.writestr(each.filename, old.read(each), zipfile.ZIP_DEFLATED)
    for damaged in (content[:3000], one_bit, Path("bomb.ckpt").read_bytes()):
        checkpoint.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"some\.ckpt .*damaged"):
            read_checkpoint(checkpoint)


@pytest.mark.fault("bad_checkpoint")
@pytest.mark.parametrize("is_zip", [True, False])
def test_code_in_a_file_is_not_run(is_zip, checkpoint):
    if is_zip:
        torch.save(torch.load(checkpoint) | {"extra": Payload()}, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(ValueError, match="more than tensors and built-in types"):
        load_classifier(checkpoint)
    with pytest.raises(ValueError, match="more than tensors and built-in types"):
        AtomicCheckpointIO().load_checkpoint(checkpoint, weights_only=False)
    assert not Path("mark").exists()


@pytest.mark.fault("bad_checkpoint")
@pytest.mark.parametrize(
    "other",
    [
        nn.Linear(2, 2).state_dict(),
        {"state_dict": {}, "hyper_parameters": {"lr": 1}},
        {"state_dict": {}},
        {
            "state_dict": {},
            "hyper_parameters": {"network": {}, "optimizer": {}},
            "data": "evil.Net",
        },
        [1, 2],
        torch.zeros(3),
    ],
)
def test_checkpoint_of_another_program_is_refused(other):
    torch.save(other, "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt is not a checkpoint of fmnist_lightning"):
        read_checkpoint("other.ckpt")


@pytest.mark.fault("bad_checkpoint")
def test_weights_that_do_not_fit_are_refused(checkpoint):
    saved = torch.load(checkpoint)
    bias = saved["state_dict"].pop("network.features.1.bias")
    for weights in ({}, {"network.features.1.bias": bias[:1]}):
        torch.save(saved | {"state_dict": saved["state_dict"] | weights}, checkpoint)
        with pytest.raises(ValueError, match=r"do not fit.*network\.features\.1\.bias"):
            load_classifier(checkpoint)
    message = "it has --model.network fmnist_lightning.MLP, not fmnist_lightning.Article"
    with pytest.raises(ValueError, match=message):
        Checkpoint(checkpoint).load_weights(FashionClassifier())


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("depth", 3, r"some\.ckpt: .*depth"),
        ("hidden_dim", 10**12, "do not fit the network"),  # which would fill the memory
    ],
)
def test_arguments_that_do_not_fit_are_refused(argument, value, message, checkpoint):
    saved = torch.load(checkpoint)
    saved["hyper_parameters"]["network"]["init_args"][argument] = value
    torch.save(saved, checkpoint)
    with pytest.raises(ValueError, match=message):
        load_classifier(checkpoint)


@pytest.mark.slow
def test_plain_trainer_resumes_from_a_checkpoint_and_saves_others(fit):
    last = fit("--model.lr_schedule", "constant") / "checkpoints" / "last.ckpt"
    trainer = Trainer(max_epochs=3, logger=False, enable_progress_bar=False, accelerator="cpu")
    hparams = read_checkpoint(last)["hyper_parameters"]
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        trainer.fit(FashionClassifier(**hparams), datamodule=tiny_data(), ckpt_path=last)
    assert trainer.global_step == 30
    trainer.save_checkpoint("theirs.ckpt")
    assert read_checkpoint("theirs.ckpt")["global_step"] == 30
    load_classifier("theirs.ckpt")
