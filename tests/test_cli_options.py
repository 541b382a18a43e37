"""Networks, optimisers, loggers and callbacks chosen on the command line."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Run
from lightning.pytorch.cli import LightningArgumentParser
from samples import THIRD_PARTY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning.commands import COMMANDS, add_options
from fmnist_lightning.training.checkpoint import read_checkpoint

Fit = Callable[..., Path]


def test_network_from_the_current_folder(
    fit: Fit, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("third_party_c.py").write_text(THIRD_PARTY)
    options = ("--model.network", "third_party_c.Net", "--model.network.width", "5")
    code, out, _ = run("fit", *TINY, "--trainer.max_epochs=2", *options)
    assert code == 0
    assert "test --ckpt_path best.ckpt --trust third_party_c.Net\n" in out
    code, _, err = run("test", "--ckpt_path", "best.ckpt")
    assert code == 1
    assert "if you trust it, add --trust third_party_c.Net" in err
    assert run("test", "--ckpt_path", "best.ckpt", "--trust", "third_party_c.Net")[0] == 0
    assert run("fit", "--ckpt_path", "last")[0] == 0  # the config of a run is trusted
    shutil.copy("best.ckpt", "alone.ckpt")
    shutil.rmtree("runs")
    assert run("test", "--ckpt_path", "alone.ckpt", "--trust=third_party_c.Net")[0] == 0
    (folder,) = Path("runs").iterdir()  # test creates one where the checkpoint has none
    assert (folder / "test.json").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_checkpoint_trained_in_bf16_can_be_tested(precision: str, fit: Fit, run: Run) -> None:
    fit("--trainer.precision", precision)
    assert run("test", "--ckpt_path", "best.ckpt")[0] == 0


@pytest.mark.slow
def test_checkpoint_of_a_compiled_network_can_be_tested(fit: Fit, run: Run) -> None:
    fit("--trainer.compile", "true")
    assert run("test", "--ckpt_path", "best.ckpt")[0] == 0


def test_optimizer_is_chosen_by_its_class(fit: Fit) -> None:
    fit("--model.optimizer", "SGD", "--model.optimizer.lr", "0.003")
    hparams = read_checkpoint("best.ckpt")["hyper_parameters"]
    assert hparams["optimizer"]["class_path"] == "torch.optim.SGD"
    assert hparams["optimizer"]["init_args"]["lr"] == 0.003


@pytest.mark.parametrize("batches", ["true", "3"])
def test_fast_dev_run_writes_no_files(batches: str, fit: Fit, run: Run) -> None:
    fit()
    before = sorted(Path().rglob("*"))
    assert run("fit", *TINY, "--trainer.fast_dev_run", batches)[0] == 0
    for command in ("validate", "test", "predict"):
        dry = ("--trainer.fast_dev_run", batches)
        assert run(command, "--ckpt_path", "best.ckpt", *dry)[0] == 0
    assert sorted(Path().rglob("*")) == before


def test_disabled_checkpointing_leaves_best_ckpt_alone(fit: Fit) -> None:
    Path("best.ckpt").write_text("not touched")
    folder = fit("--trainer.enable_checkpointing", "false")
    assert not (folder / "checkpoints").exists()
    assert Path("best.ckpt").read_text() == "not touched"


def test_disabled_logger_writes_no_log(fit: Fit, run: Run) -> None:
    folder = fit("--trainer.logger", "false")
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "config.yaml"]
    assert run("test", "--ckpt_path", "best.ckpt", "--trainer.logger", "false")[0] == 0


def test_csv_logger_replaces_tensorboard(fit: Fit) -> None:
    folder = fit(
        "--trainer.logger",
        "CSVLogger",
        "--trainer.logger.save_dir",
        "logs",
        "--trainer.log_every_n_steps=5",
    )
    with next(Path("logs").rglob("metrics.csv")).open() as stream:
        assert {"train/loss", "val/acc", "lr"} <= set(next(csv.reader(stream)))
    assert (folder / "config.yaml").exists()
    assert (folder / "checkpoints" / "last.ckpt").exists()


def test_callbacks_are_added_by_options(fit: Fit) -> None:
    folder = fit(
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=val/loss",
        "--trainer.callbacks+=ModelCheckpoint",
        "--trainer.callbacks.monitor=val/acc",
        "--trainer.callbacks.mode=max",
        "--trainer.callbacks.filename=by-accuracy",
    )
    names = {path.name for path in folder.rglob("*.ckpt")}
    assert names == {"best.ckpt", "last.ckpt", "by-accuracy.ckpt"}
    callbacks = read_checkpoint("best.ckpt")["callbacks"]
    assert any(name.startswith("EarlyStopping") for name in callbacks)


def test_averaged_weights_are_in_the_checkpoint(fit: Fit, run: Run) -> None:
    folder = fit(
        "--trainer.callbacks+=EMAWeightAveraging",
        "--trainer.callbacks.decay=0.9",
        # Batch normalisation has running averages.
        *("--model.network", "fmnist_lightning.SmallResNet", "--model.network.channels", "[8]"),
        *("--model.lr_schedule", "constant"),
    )
    log = EventAccumulator(str(folder)).Reload()
    best = min(event.value for event in log.Scalars("val/loss"))
    assert run("validate", "--ckpt_path", "best.ckpt")[0] == 0
    assert json.loads((folder / "validate.json").read_text())["loss"] == pytest.approx(best)
    last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    name = "network.head.3.weight"
    assert not torch.equal(last["state_dict"][name], last["current_model_state"][name])
    code, _, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert code == 0, err


def test_disabled_progress_bar_is_not_printed(run: Run) -> None:
    code, out, err = run(
        "fit", *TINY, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"
    )
    assert code == 0
    assert "epoch  1/1" in out
    assert "it/s" not in out + err


def test_printed_config_can_be_loaded(
    fit: Fit, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(
            "fit",
            *TINY,
            "--model.warmup_fraction",
            "0.2",
            "--trainer.max_epochs",
            "1",
            "--print_config",
        )
    Path("my.yaml").write_text(capsys.readouterr().out)
    folder = fit("--config", "my.yaml")
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    printed = yaml.safe_load(Path("my.yaml").read_text())
    del printed["ckpt_path"]
    assert saved == printed | {"num_threads": 1}  # which the tests have
    assert run("test", "--config", "my.yaml", "--ckpt_path", "best.ckpt")[0] == 0


@pytest.mark.parametrize("by_config", [False, True])
def test_arguments_of_a_default_class_are_not_given_to_another(
    by_config: bool, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model.optimizer", "SGD", "--model.optimizer.momentum", "0.5"]
    if by_config:
        spec = {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.5}}
        Path("my.yaml").write_text(yaml.safe_dump({"model": {"optimizer": spec}}))
        options = ["--config", "my.yaml"]
    with pytest.raises(SystemExit, match="0"):
        run("fit", *options, "--print_config")
    found = yaml.safe_load(capsys.readouterr().out)["model"]["optimizer"]["init_args"]
    assert (found["momentum"], found["weight_decay"], found["lr"]) == (0.5, 0, 0.001)


def test_help(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    assert "test --ckpt_path best.ckpt" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        run("fit", "--help")
    out = " ".join(capsys.readouterr().out.split())
    assert "--debug" in out
    assert "--data.batch_size" in out.split("options:")[0]
    assert "default: fmnist_lightning.ArticleCNN" not in out  # shown as class and arguments
    assert "ArticleCNN" in out


SHARED = ("--config", "--debug", "--seed_everything", "--ckpt_path", "--data")


def test_help_of_every_command_shows_the_shared_options(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    overview = capsys.readouterr().out
    for command, text in COMMANDS.items():
        assert re.search(rf"^ +{command} +{text.split()[0]}", overview, re.MULTILINE)
        with pytest.raises(SystemExit, match="0"):
            run(command, "--help")
        shown = capsys.readouterr().out
        assert all(re.search(rf"^ +.*{option}\b", shown, re.MULTILINE) for option in SHARED)
        assert ("--trust" in shown) == (command != "fit")
        assert ("--model.network" in shown) == (command == "fit")


def test_option_has_the_same_names_in_all_commands() -> None:
    names: dict[str, set[tuple[str, ...]]] = {}
    for command in COMMANDS:
        parser = LightningArgumentParser()
        add_options(parser, command)
        for action in parser._actions:
            names.setdefault(action.dest, set()).add(tuple(action.option_strings))
    assert {"ckpt_path", "data", "trainer.accelerator"} <= names.keys()
    assert {dest: found for dest, found in names.items() if len(found) > 1} == {}
    spellings = [name for found in names.values() for option in found for name in option]
    options = [name for name in spellings if name.startswith("-")]
    assert not [name for name in options if "-" in name.lstrip("-")]  # underscores everywhere


def test_overfit_batches_is_refused_with_an_alternative(run: Run) -> None:
    code, _, err = run("fit", *TINY, "--trainer.overfit_batches", "2")
    assert code == 1
    assert "set --data.train_size" in err
