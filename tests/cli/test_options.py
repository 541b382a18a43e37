"""Networks, optimisers, loggers and callbacks chosen on the command line."""

import json
import re
from pathlib import Path

import pytest
import torch
from comparing import assert_equal
from conftest import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning.cli.options import HELP
from fmnist_lightning.runs.checkpoint import read_checkpoint


def test_fast_dev_run_writes_no_files(fit, run):
    fit()
    before = sorted(Path().rglob("*"))
    assert run("fit", *TINY, "--trainer.fast_dev_run", "true")[0] == 0
    for command in ("validate", "test", "predict"):
        dry = ("--trainer.fast_dev_run", "true")
        assert run(command, "--ckpt_path", "best.ckpt", *dry)[0] == 0
    assert sorted(Path().rglob("*")) == before


def test_disabled_checkpointing_leaves_best_ckpt_alone(fit):
    Path("best.ckpt").write_text("not touched")
    folder = fit("--trainer.enable_checkpointing", "false")
    assert not (folder / "checkpoints").exists()
    assert Path("best.ckpt").read_text() == "not touched"


def test_disabled_logger_and_progress_bar_write_nothing(run):
    off = ("--trainer.logger", "false", "--trainer.enable_progress_bar", "false")
    code, out, err = run("fit", *TINY, "--trainer.max_epochs", "1", *off)
    assert code == 0
    assert "epoch  1/1" in out
    assert "it/s" not in out + err
    (folder,) = Path("runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {".lock", "checkpoints", "config.yaml"}
    assert run("test", "--ckpt_path", "best.ckpt", "--trainer.logger", "false")[0] == 0


def test_weights_of_swa_are_in_a_checkpoint_of_their_own(fit, run):
    """Lightning averages them after the last epoch, in which `last.ckpt` is saved."""
    folder = fit(
        *("--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"),
        *("--trainer.callbacks.swa_epoch_start=1", "--model.lr_schedule=constant"),
        "--trainer.max_epochs=4",
    )
    averaged, last = (
        read_checkpoint(folder / "checkpoints" / name) for name in ("averaged.ckpt", "last.ckpt")
    )
    expected = last["callbacks"]["StochasticWeightAveraging"]["average_model_state"]
    assert_equal(averaged["state_dict"], expected)
    path = str(folder / "checkpoints" / "averaged.ckpt")
    assert run("test", "--ckpt_path", path)[0] == 0


def test_averaged_weights_are_in_the_checkpoint(fit, run):
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


def test_help_shows_commands_and_examples(run):
    for args in ((), ("--help",)):
        code, out, _ = run(*args)
        assert code == 0
        assert "test --ckpt_path best.ckpt" in out
        assert all(re.search(rf"^  {command} ", out, re.MULTILINE) for command in HELP)


@pytest.mark.parametrize("command", HELP)
def test_help_of_a_command_is_short_and_true(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert len(out.splitlines()) < 40
    all_options = run(command, "--help", "all")[1].partition("usage: ")[2]
    for option in re.findall(r"^  --([\w.]+)", out, re.MULTILINE):
        is_early = option in ("ckpt_path", "trust", "help")
        is_nested = option.startswith(("model.network.", "model.optimizer.", "data."))
        assert is_early or is_nested or re.search(rf"--{option}\b", all_options), option
    assert ("--trainer.max_epochs" in all_options) == (command not in ("demo", "export"))


def test_help_of_a_class_lists_its_arguments(run, capsys):
    for name, option in (
        ("MLP", "model.network.hidden_dim"),
        ("SGD", "model.optimizer.momentum"),
        ("ImageFolderDataModule", "data.eval_batch_size"),
        ("EarlyStopping", "trainer.callbacks.patience"),
    ):
        with pytest.raises(SystemExit, match="0"):
            run("fit", "--help", name)
        assert f"--{option} " in capsys.readouterr().out


def test_overfit_batches_is_refused_with_an_alternative(run):
    code, _, err = run("fit", *TINY, "--trainer.overfit_batches", "2")
    assert code == 1
    assert "set --data.train_size to their number" in err
