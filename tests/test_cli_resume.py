"""Commands with a checkpoint: resuming, and settings that agree or conflict with it."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY, Run
from lightning.pytorch import Callback

from fmnist_lightning.training import runs
from fmnist_lightning.training.checkpoint import read_checkpoint

Fit = Callable[..., Path]


STOP = """
from lightning.pytorch import Callback

class Stop(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise OSError("the machine went away")
"""


class PutOwnFile(Callback):
    """Replaces the link in the second epoch, as a user may do."""

    def on_train_epoch_start(self, trainer: Any, pl_module: object) -> None:
        if trainer.current_epoch == 1:
            Path("best.ckpt").unlink()
            Path("best.ckpt").write_text("mine")


RANDOM = ("--model.augmentation", "fmnist_lightning.RandomAugmentation")
DROPOUT = ("--model.network.channels", "[8]", "--model.network.dropout", "0.3")


@pytest.mark.parametrize(
    ("network", "more"),
    [
        pytest.param("fmnist_lightning.ArticleCNN", (), marks=pytest.mark.slow),
        pytest.param("fmnist_lightning.MLP", (), marks=pytest.mark.slow),
        ("fmnist_lightning.SmallResNet", (*RANDOM, *DROPOUT)),
    ],
)
def test_resume_after_an_error_is_bit_identical(
    network: str, more: tuple[str, ...], fit: Fit, run: Run
) -> None:
    options = ("--trainer.max_epochs", "4", "--model.network", network, *more)
    uninterrupted = fit(*options)
    Path("stopping.py").write_text(STOP)
    code, _, err = run("fit", *TINY, *options, "--trainer.callbacks", "stopping.Stop")
    assert code == 1
    assert "the machine went away" in err
    (interrupted,) = set(Path("runs").iterdir()) - {uninterrupted}
    assert read_checkpoint(interrupted / "checkpoints" / "last.ckpt")["epoch"] == 1

    config = (interrupted / "config.yaml").read_text()
    code, out, err = run("fit", "--ckpt_path", "last", "--trainer.callbacks", "null")
    assert code == 0, err
    assert re.findall(r"epoch +(\d)/4", out) == ["3", "4"]
    assert (interrupted / "config.yaml").read_text() == config
    assert len(list(Path("runs").iterdir())) == 2
    ours, theirs = (
        read_checkpoint(folder / "checkpoints" / "last.ckpt")
        for folder in (uninterrupted, interrupted)
    )
    for name, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name]), name
    assert os.readlink("best.ckpt") == str(interrupted / "checkpoints" / "best.ckpt")


def test_test_accepts_last_as_checkpoint(fit: Fit, run: Run) -> None:
    folder = fit("--data.eval_batch_size", "50", "--model.network", "fmnist_lightning.MLP")
    assert run("test", "--ckpt_path", "last")[0] == 0
    assert (folder / "test.json").exists()


def test_resume_without_a_run_is_refused(refused: Callable[..., str]) -> None:
    assert "no run to resume" in refused("fit", "--ckpt_path", "last")


def test_one_cycle_run_cannot_be_extended(fit: Fit, refused: Callable[..., str]) -> None:
    fit()
    message = refused("fit", "--ckpt_path", "last", "--trainer.max_epochs", "9")
    assert "--trainer.max_epochs 9" in message


def test_constant_run_can_be_extended(fit: Fit, run: Run) -> None:
    fit("--model.lr_schedule", "constant")
    code, out, _ = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert code == 0
    assert re.findall(r"epoch +(\d)/3", out) == ["3"]


def test_early_stop_is_kept_by_a_resume(fit: Fit, run: Run) -> None:
    stop = ("EarlyStopping", "--trainer.callbacks.monitor=val/loss")
    no_gain = ("--trainer.callbacks.min_delta=9", "--trainer.callbacks.patience=1")
    folder = fit("--trainer.max_epochs=9", f"--trainer.callbacks={stop[0]}", stop[1], *no_gain)
    _, out, _ = run("fit", "--ckpt_path", "last")
    assert "The run had ended at step 20" in out
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 20


def test_stop_by_a_timer_is_not_kept(fit: Fit, run: Run) -> None:
    folder = fit(
        *("--model.lr_schedule=constant", "--trainer.max_epochs=-1"),
        *("--trainer.max_time=00:00:00:01", "--trainer.logger=false"),
    )
    before = read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"]
    assert run("fit", "--ckpt_path", "last", "--trainer.max_time", "00:00:00:02")[0] == 0
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] > before + 10


def test_run_that_max_steps_ends_within_an_epoch_is_validated(fit: Fit, run: Run) -> None:
    folder = fit("--trainer.max_epochs=-1", "--trainer.max_steps=7")
    assert read_checkpoint(folder / "checkpoints" / "best.ckpt")["global_step"] == 7
    assert run("test", "--ckpt_path", "best.ckpt")[0] == 0


def test_run_without_validation_names_its_last_checkpoint(run: Run) -> None:
    _, out, err = run("fit", *TINY, "--trainer.max_epochs=1", "--trainer.limit_val_batches=0")
    assert err == ""
    (path,) = Path().glob("runs/*/checkpoints/last.ckpt")
    assert f"last checkpoint: {path} (not validated)" in out
    assert f"test --ckpt_path {path}" in out


def test_last_checkpoint_of_a_run_resumes_that_run(fit: Fit, run: Run) -> None:
    first = fit("--model.lr_schedule", "constant")
    second = fit("--model.lr_schedule", "constant")
    path = str(first / "checkpoints" / "last.ckpt")
    code, out, err = run("fit", "--ckpt_path", path, "--trainer.max_epochs", "3")
    assert code == 0, err
    assert f"Resuming {first} from step 20, trainer.max_epochs 3 instead of 2" in out
    assert set(Path("runs").iterdir()) == {first, second}


def test_run_that_is_training_is_not_resumed_by_another_process(fit: Fit, run: Run) -> None:
    folder = fit("--model.lr_schedule", "constant")
    with runs.lock(folder):
        before = read_checkpoint(folder / "checkpoints" / "last.ckpt")["epoch"]
        code, _, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
        assert code == 1
        assert f"another process trains {folder}: wait for its end" in err
        assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["epoch"] == before


def test_own_file_that_appears_during_a_fit_is_left_alone(run: Run) -> None:
    callback = ("--trainer.callbacks", "test_cli_resume.PutOwnFile")
    code, out, err = run("fit", *TINY, "--trainer.max_epochs", "3", *callback)
    assert code == 0, err
    assert Path("best.ckpt").read_text() == "mine"
    assert out.count("is not from a fit in this folder, and fit does not replace it") == 1
    (run_dir,) = Path("runs").iterdir()
    assert f"best checkpoint: {run_dir}/checkpoints/best.ckpt (val loss" in out
    assert f"test --ckpt_path {run_dir}/checkpoints/best.ckpt" in out


def test_copy_of_the_best_checkpoint_is_renewed_without_links(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links on this system")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    code, out, err = run("fit", *TINY, "--trainer.max_epochs", "3")
    assert code == 0, err
    assert out.count("improved") == 3
    (run_dir,) = Path("runs").iterdir()
    assert Path("best.ckpt").read_bytes() == (run_dir / "checkpoints/best.ckpt").read_bytes()
    assert not Path("best.ckpt").is_symlink()
    assert "best checkpoint: best.ckpt -> " in out


def test_leftovers_of_a_killed_process_are_removed(fit: Fit, run: Run) -> None:
    folder = fit("--model.lr_schedule", "constant")
    (folder / "checkpoints" / ".last.ckpt.24655").touch()
    assert run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")[0] == 0
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}


def test_fit_from_a_checkpoint_creates_a_new_run(fit: Fit) -> None:
    first = fit("--model.lr_schedule", "constant", "--data.split_seed", "3")
    shutil.copy(first / "checkpoints" / "last.ckpt", "copy.ckpt")
    second = fit("--ckpt_path", "copy.ckpt", "--trainer.max_epochs", "3")
    assert second != first
    assert read_checkpoint(second / "checkpoints" / "last.ckpt")["epoch"] == 2
    saved = yaml.safe_load((second / "config.yaml").read_text())
    assert saved["data"]["init_args"]["split_seed"] == 3
    assert saved["model"]["lr_schedule"] == "constant"


def test_one_cycle_checkpoint_cannot_be_extended_in_a_new_run(
    fit: Fit, refused: Callable[..., str]
) -> None:
    fit()
    message = refused("fit", "--ckpt_path", "best.ckpt", "--trainer.max_epochs", "9")
    assert "--trainer.max_epochs 9 conflicts with the one_cycle schedule" in message


@pytest.mark.parametrize(
    "option",
    [
        "--model.network=fmnist_lightning.MLP",
        "--model.network.sigmoid=true",
        "--model.optimizer.lr=0.5",
        "--model.warmup_fraction=0.5",
        "--data.split_seed=1",
        "--data.train_size=470",
        "--data.val_size=100",
    ],
)
def test_option_that_conflicts_with_the_checkpoint_is_refused(
    option: str, fit: Fit, refused: Callable[..., str]
) -> None:
    fit()
    for command in ("test", "validate", "fit"):
        message = refused(command, "--ckpt_path", "best.ckpt", option)
        assert "conflicts with the checkpoint best.ckpt" in message
        assert option.split("=")[0].removesuffix(".sigmoid").removesuffix(".lr") in message


def test_option_that_agrees_with_the_checkpoint_is_accepted(fit: Fit, run: Run) -> None:
    fit("--data.split_seed", "2")
    options = ("--data.split_seed=2", "--model.warmup_fraction=0.1", "--data.eval_batch_size=50")
    assert run("test", "--ckpt_path", "best.ckpt", *options)[0] == 0


@pytest.mark.parametrize("first", ["--config", "--ckpt_path"])
def test_config_of_the_run_can_be_given_in_any_order(first: str, fit: Fit, run: Run) -> None:
    folder = fit("--data.eval_batch_size", "50", "--model.network", "fmnist_lightning.MLP")
    options = [("--config", str(folder / "config.yaml")), ("--ckpt_path", "best.ckpt")]
    options.sort(key=lambda pair: pair[0] != first)
    for command in ("test", "validate"):
        code, _, err = run(command, *options[0], *options[1])
        assert code == 0, err
        assert (folder / f"{command}.json").exists()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("model", "warmup_fraction", 0.5), ("data", "split_seed", 1), ("data", "train_size", 470)],
)
def test_config_that_conflicts_with_the_checkpoint_is_refused(
    section: str, key: str, value: float, fit: Fit, refused: Callable[..., str]
) -> None:
    config = yaml.safe_load((fit() / "config.yaml").read_text())
    settings = config[section]
    settings.get("init_args", settings)[key] = value
    Path("other.yaml").write_text(yaml.safe_dump(config))
    for options in (
        ("--config", "other.yaml", "--ckpt_path", "best.ckpt"),
        ("--ckpt_path", "best.ckpt", "--config", "other.yaml"),
    ):
        message = refused("test", *options)
        assert f"--{section}.{key} {value} conflicts with the checkpoint best.ckpt" in message
