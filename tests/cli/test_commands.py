import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from samples import THIRD_PARTY

from fmnist_lightning import FashionMNISTDataModule, __main__, load_classifier
from fmnist_lightning.runs.checkpoint import read_checkpoint


def test_accuracies_equal_those_of_the_loaded_classifier(fit, run):
    folder = fit("--data.split_seed", "5")
    assert os.readlink("best.ckpt") == str(folder / "checkpoints" / "best.ckpt")
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    data = FashionMNISTDataModule(train_size=480, val_size=120, split_seed=5)
    for command in ("validate", "test"):
        data.setup(command)
        dataset = data.test_dataset if command == "test" else data.val_dataset
        with torch.no_grad():
            predictions = load_classifier("best.ckpt")(dataset.images).argmax(1)
        correct = int((predictions == dataset.labels).sum())
        code, out, _ = run(command, "--ckpt_path", "best.ckpt")
        assert code == 0
        assert f" {100 * correct / len(dataset):.2f} % ({correct}/{len(dataset)})" in out
        assert json.loads((folder / f"{command}.json").read_text())["correct"] == correct
    assert re.search(r"Ankle boot +\d+\.\d\d % \(\d+/14\)", out)
    assert list(Path("runs").iterdir()) == [folder]  # they create no run folder


def test_best_checkpoint_has_the_lowest_validation_loss(fit, run):
    """The learning rate becomes so high that the last epoch is not the best."""
    schedule = ("--model.lr_schedule=one_cycle", "--model.warmup_fraction=0.9")
    optimizer = ("--model.optimizer=SGD", "--model.optimizer.lr=0.9")
    decay = "--model.optimizer.weight_decay=0.05"
    folder = fit("--trainer.max_epochs=4", *schedule, *optimizer, decay)
    best, last = (
        read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")
    )
    assert last["epoch"] == 3
    assert best["epoch"] < 3
    run("validate", "--ckpt_path", "best.ckpt")
    loss = json.loads((folder / "validate.json").read_text())["loss"]
    scores = [state for state in last["callbacks"].values() if state.get("monitor") == "val/loss"]
    assert loss == pytest.approx(float(scores[0]["best_model_score"]), rel=1e-5)


def test_run_has_its_name_and_is_named_by_what_uses_it(fit, run):
    folder = fit("--name", "wide_lr=0.1")
    assert re.fullmatch(r"[\d_-]{19}_wide_lr=0.1", folder.name)
    score = float(re.findall(r"loss (\S+)", run("validate", "--ckpt_path", "best.ckpt")[1])[1])
    for command in ("validate", "test", "predict"):
        out = run(command, "--ckpt_path", "best.ckpt")[1]
        assert out.splitlines()[0] == (
            f"best.ckpt: {folder}, ArticleCNN, step 20, val loss {score:.4f}"
        )
    last = f"{folder}/checkpoints/last.ckpt"
    assert run("test", "--ckpt_path", last)[1].startswith(
        f"{last}: {folder}, ArticleCNN, step 20\n"
    )
    assert "--name may have" in run("fit", "--name", "a/b")[2]


def test_same_seed_gives_the_same_weights(fit):
    runs = [fit("--trainer.max_epochs", "1", f"--seed_everything={seed}") for seed in (0, 0, 7)]
    weights = [read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in runs]
    name = "network.features.0.weight"
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])


def test_weights_that_are_not_finite_are_refused(fit, refused):
    fit()
    checkpoint = read_checkpoint("best.ckpt")
    checkpoint["state_dict"]["network.features.0.weight"][0] = torch.nan
    torch.save(checkpoint, "bad.ckpt")
    message = refused("test", "--ckpt_path", "bad.ckpt")
    assert "the weights network.features.0.weight of bad.ckpt are not finite" in message


def test_network_early_stop_and_other_log_folder_are_named(run):
    stop = ("--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss")
    logger = ("--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "elsewhere")
    options = ("--trainer.callbacks.stopping_threshold", "9.0", *logger)
    code, out, err = run("fit", *TINY, "--trainer.max_epochs", "5", *stop, *options)
    assert code == 0, err
    assert out.startswith("ArticleCNN, 11,252 parameters\n")
    assert "Epoch 0" not in out + err  # they count from 1
    assert "epoch  2" not in out
    assert "Stopped early: Stopping threshold reached" in out
    assert "tensorboard --logdir elsewhere/lightning_logs" in out


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.fault("bad_settings")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("fit --data.batch_size many", "--data.batch_size many: expected int"),
        ("fit --data.batch_size 0", "batch_size must be at least 1, not 0"),
        ("fit --trainer.max_epochs -2", "max_epochs"),
        ("fit --trainer.precision 12", "trainer.precision"),
        ("fit --config gone.yaml", "gone.yaml"),
        ("fit --config broken.yaml", "broken.yaml is not a config: while parsing"),
        ("fit --config unknown.yaml", "nonsense"),
        (
            "fit --model.network fmnist_lightning.MLP --model.network.hidden_dim x",
            "--model.network.hidden_dim x: expected int",
        ),
        ("fit --data.train_size 50000", "at most 600"),
        ("fit --ckpt_path gone.ckpt", "no checkpoint file gone.ckpt"),
        ("test --ckpt_path gone.ckpt", "no checkpoint file gone.ckpt"),
        ("test --ckpt_path best", "no checkpoint file best"),
        ("test", "test needs a trained network: give --ckpt_path"),
        ("validate", "validate needs a trained network"),
        ("predict", "predict needs a trained network"),
        ("predict --ckpt_paht fast", "no option --ckpt_paht; did you mean --ckpt_path?"),
        ("test --ckpt_path other.ckpt", "other.ckpt is not a checkpoint of fmnist_lightning"),
        ("test --ckpt_path text.ckpt", "text.ckpt is not a checkpoint"),
    ],
)
def test_invalid_command_line_gives_one_error_line(args, message, refused):
    Path("broken.yaml").write_text("trainer: [")
    Path("unknown.yaml").write_text("trainer:\n  nonsense: 1\n")
    Path("text.ckpt").write_text("hello")
    torch.save({"state_dict": {}, "hyper_parameters": {"lr": 1}}, "other.ckpt")
    assert message in refused(*args.split())


def test_missing_dataset_is_reported(run, data_dir):
    shutil.rmtree(data_dir)
    code, _, err = run("fit", *TINY)
    assert code == 1
    assert "no source has a valid copy of train-images" in err
    assert "by hand" in err
    assert "Traceback" not in err
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


# ---- in a process ------------------------------------------------------------------------------


def test_console_script_is_the_same_program():
    (script,) = importlib.metadata.entry_points(name="fmnist-lightning")
    assert script.load() is __main__.main


def test_process_finds_classes_of_the_current_folder_and_ends_with_one_line():
    Path("third_party_d.py").write_text(THIRD_PARTY)
    options = ("--model.network", "third_party_d.Net", "--model.network.width", "wide")
    environment = os.environ | {"PYTHONPATH": str(Path(__main__.__file__).parent.parent)}
    command = [sys.executable, "-m", "fmnist_lightning", "fit", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --model.network.width wide: expected int")
    assert len(done.stderr.splitlines()) == 1
