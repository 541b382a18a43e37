"""Configs, and classes that replace those of a config."""

from pathlib import Path

import pytest
import yaml
from conftest import TINY


def test_printed_config_can_be_loaded(fit, run, print_config):
    options = (*TINY, "--trainer.max_epochs=2", "--model.warmup_fraction=0.2")
    printed = print_config(*options)
    Path("my.yaml").write_text(yaml.safe_dump(printed))
    saved = yaml.safe_load((fit("--config", "my.yaml") / "config.yaml").read_text())
    assert saved == printed | {"num_threads": 1}  # which the tests have
    assert run("test", "--config", "my.yaml", "--ckpt_path", "best.ckpt")[0] == 0


@pytest.mark.parametrize(
    ("options", "optimizer"),
    [
        ("--model.optimizer SGD --model.optimizer.momentum 0.5", ("SGD", 0.001, 0, 0.5)),
        ("--config sgd.yaml", ("SGD", 0.001, 0, 0.5)),
        ("--model.optimizer AdamW", ("AdamW", 0.01, 0.05, None)),  # the default, named
        ("--config fast --model.optimizer torch.optim.SGD", ("SGD", 0.2, 0.0003, 0.9)),  # the same
        ("--config fast --model.optimizer AdamW", ("AdamW", 0.001, 0.01, None)),
        ("--model.optimizer AdamW --config fast", ("AdamW", 0.001, 0.01, None)),
        ("--config fast --config adamw.yaml", ("AdamW", 0.001, 0.01, None)),
        ("--model.optimizer.lr 0.3 --config fast", ("SGD", 0.3, 0.0003, 0.9)),
        ("--config fast --config sgd.yaml", ("SGD", 0.2, 0.0003, 0.5)),
    ],
)
def test_class_that_replaces_another_has_its_own_defaults(options, optimizer, print_config):
    for name, spec in (
        ("sgd", {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.5}}),
        ("adamw", {"class_path": "torch.optim.AdamW"}),
    ):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"model": {"optimizer": spec}}))
    spec = print_config(*options.split())["model"]["optimizer"]
    keys = ("lr", "weight_decay", "momentum")
    values = [spec["init_args"].get(key) for key in keys]
    assert (spec["class_path"], *values) == (f"torch.optim.{optimizer[0]}", *optimizer[1:])


@pytest.mark.parametrize(
    ("options", "is_replaced"),
    [
        ("--config a.yaml --trainer.callbacks EarlyStopping", True),
        ("--config a.yaml --config b.yaml", True),
        ("--config a.yaml --trainer.callbacks+=EarlyStopping", False),
    ],
)
def test_callback_of_a_config_is_not_replaced_without_a_line(options, is_replaced, run):
    package, duration = "lightning.pytorch.callbacks", {"duration": "00:01:00:00"}
    timer = {"class_path": f"{package}.Timer", "init_args": duration}
    stop = {"class_path": f"{package}.EarlyStopping", "init_args": {"monitor": "val/loss"}}
    for name, callback in (("a", timer), ("b", stop)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    if "EarlyStopping" in options:
        options += " --trainer.callbacks.monitor val/loss"
    code, out, err = run("fit", *TINY, "--trainer.fast_dev_run", "1", *options.split())
    assert code == 0, err
    assert ("Timer is replaced, with its settings" in out) == is_replaced


def test_numbers_in_a_config_are_numbers(print_config):
    text = "model: {optimizer: {class_path: SGD, init_args: {lr: 1e-3}}}\ntrainer: {max_epochs: 3}"
    Path("my.yaml").write_text(text)
    printed = print_config("--config", "my.yaml")
    assert printed["model"]["optimizer"]["init_args"]["lr"] == 0.001
    assert printed["trainer"]["max_epochs"] == 3


def test_checkpoint_in_a_config_is_refused(refused):
    Path("my.yaml").write_text("ckpt_path: best.ckpt")
    assert "give --ckpt_path on the command line" in refused("fit", "--config", "my.yaml")
