"""Settings that can't work, and errors in the middle of a training."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY
from lightning.pytorch import Callback


class Crash(Callback):
    """Fails at a step, by default in the middle of the second epoch."""

    def __init__(self, step: int = 15) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            raise KeyError("a fault of ours")


class TakeLink(Callback):
    """Stands for another run that improves last."""

    def on_train_end(self, trainer, *_):
        Path("best.ckpt").unlink()
        Path("best.ckpt").write_bytes(b"that of another run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--trainer.devices [0]", "TypeError: `devices` selected with `CPUAccelerator` should be"),
        ("--model.augmentation torch.nn.Dropout", "TypeError: Dropout.forward() takes 2"),
        ("--model.network torch.nn.Identity", "optimizer got an empty parameter list"),
        ("--trainer.callbacks LearningRateFinder", "AttributeError: When using the learning rate"),
    ],
)
def test_setting_that_cannot_work_is_one_line_and_leaves_no_run(options, message, run):
    code, _, err = run("fit", *TINY, "--trainer.max_epochs", "2", *options.split())
    assert code == 1
    (line,) = (each for each in err.splitlines() if each.startswith("error: "))
    assert line.removeprefix("error: ").startswith(message)
    assert line.endswith(" (--debug shows the traceback)") == message[0].isupper()
    assert "Traceback" not in err
    assert not Path("runs").exists()


def test_debug_shows_the_traceback_of_a_setting(run):
    with pytest.raises(TypeError, match=r"Dropout\.forward\(\)"):
        run("fit", *TINY, "--debug", "--model.augmentation", "torch.nn.Dropout")


@pytest.mark.skipif(bool(importlib.util.find_spec("wandb")), reason="wandb is installed")
def test_missing_package_of_a_logger_is_named_in_one_line(run):
    code, _, err = run("fit", *TINY, "--trainer.logger", "WandbLogger")
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: Requirement 'wandb")
    assert last.endswith("HINT: Try running `pip install -U 'wandb>=0.12.10'`")


def test_error_in_mid_training_keeps_its_traceback_in_the_run(run):
    code, out, err = run("fit", *TINY, "--trainer.callbacks", "test_messages.Crash")
    assert code == 1
    (run_dir,) = Path("runs").iterdir()
    assert f"Stopped at step 15 by an error, whose traceback is in {run_dir}/traceback.txt" in out
    text = (run_dir / "traceback.txt").read_text()
    assert text.startswith("Traceback")
    assert text.endswith("KeyError: 'a fault of ours'\n")
    assert "error: KeyError: 'a fault of ours' (--debug shows the traceback)" in err


def test_error_in_a_dry_run_writes_nothing(run):
    Path("runs").mkdir()
    before = sorted(Path().rglob("*"))
    crash = ("--trainer.callbacks", "test_messages.Crash", "--trainer.callbacks.step", "1")
    code, out, _ = run("fit", *TINY, "--trainer.fast_dev_run", "2", *crash)
    assert code == 1
    assert "traceback" not in out
    assert sorted(Path().rglob("*")) == before


def test_home_folder_and_null_stand_for_folders_of_runs(run, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME" if sys.platform != "win32" else "USERPROFILE", str(home))
    # A default of Timer is an enum, which YAML does not know.
    timer = ("--trainer.callbacks", "Timer", "--trainer.callbacks.duration", "00:00:10:00")
    fit = ("fit", *TINY, "--model.lr_schedule", "constant", "--trainer.default_root_dir")
    code, out, err = run(*fit, "~/mine", "--trainer.max_epochs", "1", *timer)
    assert code == 0, err
    assert f"tensorboard --logdir {home}/mine" in out
    (run_dir,) = (home / "mine").iterdir()
    (saved,) = yaml.safe_load((run_dir / "config.yaml").read_text())["trainer"]["callbacks"]
    assert saved["init_args"] == {"duration": "00:00:10:00", "interval": "step", "verbose": True}
    code, out, err = run(*fit, "~/mine", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert code == 0, err
    assert "epoch  2/2" in out
    assert run(*fit, "null", "--trainer.max_epochs", "1")[0] == 0
    assert len(list(Path("runs").iterdir())) == 1


def test_best_checkpoint_is_named_where_another_run_has_the_link(run):
    _, out, err = run(
        "fit", *TINY, "--trainer.max_epochs", "1", "--trainer.callbacks", "test_messages.TakeLink"
    )
    assert err == ""
    (path,) = Path().glob("runs/*/checkpoints/best.ckpt")
    assert f"best checkpoint: {path} (val loss " in out
    assert f"test --ckpt_path {path}\n" in out
