"""Commands with a checkpoint: resuming, and settings that agree or conflict with it."""

import os
import re
from pathlib import Path

import torch
import yaml
from conftest import TINY
from samples import tiny_data

from fmnist_lightning import MLP, FashionClassifier, create_trainer
from fmnist_lightning.runs import runs
from fmnist_lightning.runs.checkpoint import read_checkpoint

STOP = """
from lightning.pytorch import Callback

class Stop(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise OSError("the machine went away")
"""


def test_options_of_a_resume_are_kept_by_the_next_one_if_it_begins(fit, run):
    Path("late_stop.py").write_text(STOP)
    folder = fit("--model.lr_schedule=constant", "--trainer.max_epochs=1")
    config = (folder / "config.yaml").read_bytes()
    code, _, err = run("fit", "--ckpt_path", "last", "--model.optimizer.lr=0.5")
    assert code == 1
    assert "optimizer.lr 0.01, not 0.5" in err
    assert (folder / "config.yaml").read_bytes() == config
    longer = ("--trainer.max_epochs=4", "--trainer.callbacks+=late_stop.Stop")
    for options, epochs in ((longer, ["2"]), ((), [])):
        code, out, err = run("fit", "--ckpt_path", "last", *options)
        assert code == 1
        assert "the machine went away" in err
        assert re.findall(r"epoch +(\d)/4", out) == epochs
    code, out, err = run("fit", "--ckpt_path", "last", "--trainer.callbacks", "null")
    assert code == 0, err
    assert "Stop is replaced, with its settings" in out
    assert re.findall(r"epoch +(\d)/4", out) == ["3", "4"]
    assert list(Path("runs").iterdir()) == [folder]
    assert os.readlink("best.ckpt") == str(folder / "checkpoints" / "best.ckpt")


def test_callbacks_that_a_resume_gives_again_are_not_doubled(fit, run):
    """One of them is a ModelCheckpoint beside that of the run."""
    given = (
        *("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"),
        *("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=own"),
    )
    folder = fit("--model.lr_schedule=constant", "--trainer.max_epochs=1", *given)
    names = {path.name for path in folder.rglob("*.ckpt")}
    assert names == {"best.ckpt", "last.ckpt", "own.ckpt"}
    code, out, err = run("fit", "--ckpt_path=last", "--trainer.max_epochs=2", *given)
    assert code == 0, err
    assert f"best checkpoint: best.ckpt -> {folder}/checkpoints/best.ckpt" in out
    saved = yaml.safe_load((folder / "config.yaml").read_text())["trainer"]
    assert saved["max_epochs"] == 2
    classes = [each["class_path"].rpartition(".")[2] for each in saved["callbacks"]]
    assert classes == ["EarlyStopping", "ModelCheckpoint"]


def test_early_stop_is_kept_by_a_resume(fit, run):
    stop = ("EarlyStopping", "--trainer.callbacks.monitor=val/loss")
    no_gain = ("--trainer.callbacks.min_delta=9", "--trainer.callbacks.patience=1")
    folder = fit("--trainer.max_epochs=9", f"--trainer.callbacks={stop[0]}", stop[1], *no_gain)
    _, out, _ = run("fit", "--ckpt_path", "last")
    assert "The run is already complete (step 20); nothing to train" in out
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 20
    _, out, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs=3")
    assert "the one_cycle schedule of the run is for 90 steps, not 30" in err
    assert "Stopped at step" not in out  # it has not trained
    folder.rename("runs/mine")
    assert "The run is already complete" in run("fit", "--ckpt_path", "last")[1]


def test_stop_by_a_timer_is_not_kept(fit, run):
    folder = fit(
        *("--model.lr_schedule=constant", "--trainer.max_epochs=-1"),
        *("--trainer.max_time.milliseconds=200", "--trainer.logger=false"),
    )
    before = read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"]
    assert run("fit", "--ckpt_path", "last", "--trainer.max_time.milliseconds", "600")[0] == 0
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] > before + 10


def test_run_without_validation_names_its_last_checkpoint(run):
    _, out, err = run("fit", *TINY, "--trainer.max_epochs=1", "--trainer.limit_val_batches=0")
    assert err == ""
    (path,) = Path().glob("runs/*/checkpoints/last.ckpt")
    assert f"last checkpoint: {path} (not validated)" in out
    assert f"test --ckpt_path {path}" in out


def test_last_checkpoint_of_a_run_resumes_that_run_when_no_other_process_trains_it(fit, run):
    first = fit("--model.lr_schedule", "constant")
    second = fit("--model.lr_schedule", "constant")
    last = first / "checkpoints" / "last.ckpt"
    leftover = first / "checkpoints" / ".last.ckpt.24655"  # of a process that was killed
    leftover.touch()
    before = last.read_bytes()
    resume = ("fit", "--ckpt_path", str(last), "--trainer.max_epochs", "3")
    with runs.lock(first):
        code, _, err = run(*resume)
        assert code == 1
        assert f"{first} is being trained by another process; wait until it finishes" in err
        assert last.read_bytes() == before
    code, out, err = run(*resume)
    assert code == 0, err
    assert f"Resuming {first} from step 20 with --trainer.max_epochs 3" in out
    assert re.findall(r"epoch +(\d)/3", out) == ["3"]
    assert set(Path("runs").iterdir()) == {first, second}
    assert not leftover.exists()


def test_fit_from_a_checkpoint_of_the_package_begins_with_its_settings(print_config):
    model = print_config("--ckpt_path", "fast", "--model.optimizer.lr", "0.002")["model"]
    assert model["network"]["class_path"] == "fmnist_lightning.SmallResNet"
    assert model["optimizer"]["class_path"] == "torch.optim.SGD"
    assert model["optimizer"]["init_args"]["lr"] == 0.002
    assert model["optimizer"]["init_args"]["momentum"] == 0.9
    assert model["hflip_tta"] is True


def test_fit_from_a_checkpoint_begins_a_new_run_from_its_weights(fit, run):
    options = ("--model.lr_schedule=constant", "--data.split_seed=3", "--trainer.max_epochs=1")
    first = fit(*options)
    code, out, err = run("fit", "--ckpt_path", "best.ckpt", "--model.optimizer.lr=0")
    assert code == 0, err
    assert out.startswith(f"A new run from the weights of best.ckpt ({first}), step 10 with ")
    (second,) = set(Path("runs").iterdir()) - {first}
    ours, theirs = (read_checkpoint(path / "checkpoints" / "last.ckpt") for path in (first, second))
    assert (theirs["epoch"], theirs["global_step"]) == (0, 10)
    for name, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name]), name
    saved = yaml.safe_load((second / "config.yaml").read_text())
    assert saved["data"]["init_args"]["split_seed"] == 3
    assert saved["model"]["lr_schedule"] == "constant"


def test_other_split_than_that_of_the_checkpoint_is_refused(fit, run):
    folder = fit("--trainer.max_epochs=1")
    for command in ("validate", "fit"):
        for name in ("split_seed", "val_size"):
            code, _, err = run(command, "--ckpt_path", "best.ckpt", f"--data.{name}=110")
            assert code == 1
            assert re.match(rf"error: the network was trained with {name} \d+, not 110: ", err)
        assert list(Path("runs").iterdir()) == [folder]
        code, _, err = run(command, "--ckpt_path", "best.ckpt", "--data.train_size=470")
        assert code == 0, err  # leaves the validation images as they are


def test_config_must_agree_with_the_checkpoint(fit, run, refused):
    folder = fit("--data.eval_batch_size=50", "--model.network=MLP", "--data.split_seed=2")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    Path("same.yaml").write_text(yaml.safe_dump(config))
    config["model"]["warmup_fraction"] = 0.5
    Path("other.yaml").write_text(yaml.safe_dump(config))
    best = ("--ckpt_path", "best.ckpt")
    assert run("test", *best, "--config", "same.yaml", "--data.split_seed=2")[0] == 0
    message = refused("test", "--config", "other.yaml", *best)
    assert "--model.warmup_fraction 0.5 conflicts with the checkpoint" in message
    assert (folder / "test.json").exists()


def test_run_of_a_script_is_tested_in_its_folder_and_resumed_by_the_script(run):
    trainer = create_trainer(
        run_dir=Path("runs/mine"), max_epochs=1, accelerator="cpu", devices=1, logger=False
    )
    trainer.fit(FashionClassifier(network=MLP), datamodule=tiny_data())
    assert run("test", "--ckpt_path", "best.ckpt")[0] == 0
    assert Path("runs/mine/test.json").is_file()
    code, _, err = run("fit", "--ckpt_path", "last")
    assert code == 1
    assert "as the run of a script: resume it with the script" in err
    code, out, err = run("fit", "--ckpt_path=best.ckpt", "--model.network=MLP", *TINY[4:])
    assert code == 0, err
    assert out.startswith("A new run from the weights of best.ckpt (runs/mine), step 10 with ")


def test_moved_run_keeps_its_best_checkpoint(fit, run):
    folder = fit("--model.lr_schedule=constant", "--trainer.max_epochs=1")
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (key,) = (key for key in last["callbacks"] if key.startswith("RunCheckpoint"))
    last["callbacks"][key]["best_model_score"] = torch.tensor(0.01)  # no later epoch is better
    torch.save(last, folder / "checkpoints" / "last.ckpt")
    best = (folder / "checkpoints" / "best.ckpt").read_bytes()
    Path("runs").rename("moved")
    code, out, err = run(
        "fit", "--ckpt_path", "last", "--trainer.default_root_dir=moved", "--trainer.max_epochs=2"
    )
    assert code == 0, err
    assert "(val loss 0.0100)" in out
    assert Path("moved", folder.name, "checkpoints", "best.ckpt").read_bytes() == best
