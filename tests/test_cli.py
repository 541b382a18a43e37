import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Run
from lightning.pytorch.cli import LightningArgumentParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_lightning import FashionMNISTDataModule, __main__, load_classifier
from fmnist_lightning.commands import COMMANDS, add_options
from fmnist_lightning.training.checkpoint import read_checkpoint

Fit = Callable[..., Path]
THIRD_PARTY = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width: int = 8):
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))
"""


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Runs a command that must fail with one line on stderr, no output and no new files."""

    def refused(*args: str) -> str:
        before = sorted(Path().rglob("*"))
        code, out, err = run(*args)
        assert code in (1, 2)
        assert out == ""
        lines = [line for line in err.splitlines() if not line.startswith("GPU available")]
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        assert sorted(Path().rglob("*")) == before
        return lines[0]

    return refused


# ---- commands ----------------------------------------------------------------------------------


def test_test_accuracy_equals_that_of_the_loaded_classifier(fit: Fit, run: Run) -> None:
    folder = fit()
    assert os.readlink("best.ckpt") == str(folder / "checkpoints" / "best.ckpt")
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 2

    code, out, _ = run("test", "--ckpt_path", "best.ckpt")
    assert code == 0
    summary = json.loads((folder / "test.json").read_text())
    percent = f"{100 * summary['accuracy']:.2f}"
    assert f"test accuracy {percent} % ({summary['correct']}/105)" in out
    assert re.search(r"Ankle boot +\d+\.\d\d % \(\d+/10\)", out)

    data = FashionMNISTDataModule()
    data.setup("test")
    with torch.no_grad():
        predictions = load_classifier("best.ckpt")(data.test_dataset.images).argmax(1)
    assert summary["correct"] == int((predictions == data.test_dataset.labels).sum())
    assert list(Path("runs").iterdir()) == [folder]  # test creates no run folder


def test_fit_prints_one_line_per_epoch(run: Run) -> None:
    code, out, _ = run("fit", *TINY, "--trainer.max_epochs", "3")
    assert code == 0
    number = r"(\d+\.\d+)"
    part = f"loss {number} acc +{number} %"
    line = rf"epoch +(\d)/3  train {part}  val {part}(.*)"
    epochs = re.findall(line, out)
    assert [epoch[0] for epoch in epochs] == ["1", "2", "3"]
    best = float("inf")
    for *_, val_loss, _, note in epochs:
        assert ("improved" in note) == (float(val_loss) < best)
        best = min(best, float(val_loss))
    assert f"(val loss {best:.4f})" in out
    assert "tensorboard --logdir runs" in out


def test_epoch_without_validation_prints_no_validation_metrics(run: Run) -> None:
    every_second = ("--trainer.check_val_every_n_epoch", "2")
    code, out, _ = run("fit", *TINY, "--trainer.max_epochs", "4", *every_second)
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("epoch")]
    assert ["val loss" in line for line in lines] == [False, True, False, True]


def test_best_checkpoint_has_the_lowest_validation_loss(fit: Fit, run: Run) -> None:
    """The learning rate becomes so high that the last epoch is not the best."""
    folder = fit(
        *(
            "--trainer.max_epochs",
            "4",
            "--model.lr_schedule",
            "one_cycle",
            "--model.warmup_fraction",
            "0.9",
        ),
        *("--model.optimizer", "SGD", "--model.optimizer.lr", "0.9"),
    )
    best, last = (
        read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")
    )
    assert last["epoch"] == 3
    assert best["epoch"] < 3
    run("validate", "--ckpt_path", "best.ckpt")
    loss = json.loads((folder / "validate.json").read_text())["loss"]
    scores = [state for state in last["callbacks"].values() if state.get("monitor") == "val/loss"]
    assert loss == pytest.approx(float(scores[0]["best_model_score"]), rel=1e-5)


def test_validate_uses_the_split_of_the_checkpoint(fit: Fit, run: Run) -> None:
    folder = fit("--data.split_seed", "5")
    _, out, _ = run("validate", "--ckpt_path", "best.ckpt")
    assert "(" in out
    assert json.loads((folder / "validate.json").read_text())["total"] == 120
    data = FashionMNISTDataModule(train_size=480, val_size=120, split_seed=5)
    data.setup("validate")
    with torch.no_grad():
        predictions = load_classifier("best.ckpt")(data.val_dataset.images).argmax(1)
    correct = int((predictions == data.val_dataset.labels).sum())
    assert f"({correct}/120)" in out


def test_predict_writes_probabilities_as_csv(fit: Fit, run: Run) -> None:
    folder = fit()
    code, out, _ = run("predict", "--ckpt_path", "best.ckpt")
    assert code == 0
    assert f"105 predictions written to {folder}/predictions.csv" in out
    with (folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["index"]) for row in rows] == list(range(105))
    names = list(rows[0])[3:]
    for row in rows:
        probabilities = [float(row[name]) for name in names]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert row["prediction"] == names[probabilities.index(max(probabilities))]
    correct = sum(row["prediction"] == row["label"] for row in rows)
    run("test", "--ckpt_path", "best.ckpt")
    assert correct == json.loads((folder / "test.json").read_text())["correct"]


def test_same_seed_gives_the_same_weights(fit: Fit) -> None:
    runs = [fit(), fit(), fit("--seed_everything", "7")]
    weights = [read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in runs]
    name = "network.features.0.weight"
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])


# ---- any network, any config -------------------------------------------------------------------


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
    fit("--model.compile", "true")
    assert run("test", "--ckpt_path", "best.ckpt")[0] == 0


def test_optimizer_is_chosen_by_its_class(fit: Fit) -> None:
    fit("--model.optimizer", "SGD", "--model.optimizer.lr", "0.003")
    hparams = read_checkpoint("best.ckpt")["hyper_parameters"]
    assert hparams["optimizer"]["class_path"] == "torch.optim.SGD"
    assert hparams["optimizer"]["init_args"]["lr"] == 0.003


# ---- options of the Trainer --------------------------------------------------------------------


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
        *(
            "--model.network",
            "fmnist_lightning.RegularizedCNN",
        ),  # batch normalisation has running averages
        *("--model.lr_schedule", "constant"),
    )
    log = EventAccumulator(str(folder)).Reload()
    best = min(event.value for event in log.Scalars("val/loss"))
    assert run("validate", "--ckpt_path", "best.ckpt")[0] == 0
    assert json.loads((folder / "validate.json").read_text())["loss"] == pytest.approx(best)
    last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    name = "network.head.2.weight"
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
    assert saved == {key: value for key, value in printed.items() if key != "ckpt_path"}
    assert run("test", "--config", "my.yaml", "--ckpt_path", "best.ckpt")[0] == 0


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


def test_an_option_has_the_same_names_in_all_commands() -> None:
    names: dict[str, set[tuple[str, ...]]] = {}
    for command in COMMANDS:
        parser = LightningArgumentParser()
        add_options(parser, command)
        for action in parser._actions:
            names.setdefault(action.dest, set()).add(tuple(action.option_strings))
    assert {"ckpt_path", "data", "trainer.accelerator"} <= names.keys()
    assert {dest: found for dest, found in names.items() if len(found) > 1} == {}
    spellings = [name for found in names.values() for option in found for name in option]
    assert not [name for name in spellings if "-" in name.lstrip("-")]  # one spelling: underscores


# ---- resuming ----------------------------------------------------------------------------------

STOP = """
from lightning.pytorch import Callback

class Stop(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise OSError("the machine went away")
"""


RANDOM = ("--model.augmentation", "fmnist_lightning.RandomAugmentation")


@pytest.mark.parametrize(
    ("network", "num_workers", "more"),
    [
        ("fmnist_lightning.ArticleCNN", "0", ()),
        ("fmnist_lightning.MLP", "2", ()),
        ("fmnist_lightning.RegularizedCNN", "0", (*RANDOM, "--model.network.dropout", "0.3")),
    ],
)
def test_resume_after_an_error_is_bit_identical(
    network: str, num_workers: str, more: tuple[str, ...], fit: Fit, run: Run
) -> None:
    options = (
        *("--trainer.max_epochs", "4", "--model.network", network),
        *("--data.num_workers", num_workers, *more),
    )
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


def test_fit_from_a_checkpoint_creates_a_new_run(fit: Fit) -> None:
    first = fit("--model.lr_schedule", "constant", "--data.split_seed", "3")
    path = str(first / "checkpoints" / "last.ckpt")
    second = fit("--ckpt_path", path, "--trainer.max_epochs", "3")
    assert second != first
    assert read_checkpoint(second / "checkpoints" / "last.ckpt")["epoch"] == 2
    saved = yaml.safe_load((second / "config.yaml").read_text())
    assert saved["data"]["init_args"]["split_seed"] == 3
    assert saved["model"]["lr_schedule"] == "constant"


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.fault("bad_settings")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "fit,validate,test,predict"),
        ("fat", "invalid choice: 'fat'"),
        ("fit --data.batchsize 3", "Option 'batchsize' is not accepted"),
        ("fit --data.batch_size many", "\"batch_size\": Expected a <class 'int'>"),
        ("fit --data.batch_size 0", "batch_size must be at least 1, not 0"),
        ("fit --trainer.max_epochs soon", "trainer.max_epochs"),
        ("fit --trainer.max_epochs -2", "max_epochs"),
        ("fit --trainer.precision 12", "trainer.precision"),
        ("fit --config gone.yaml", "gone.yaml"),
        ("fit --config broken.yaml", "Problems parsing config"),
        ("fit --config unknown.yaml", "nonsense"),
        ("fit --model.network.depth 3", "'depth' is not accepted"),
        ("fit --model.network fmnist_lightning.MLP --model.network.hidden_dim x", '"hidden_dim"'),
        (
            "fit --model.network fmnist_lightning.MLP --model.network.hidden_dim null",
            "network.hidden",
        ),
        ("fit --model.optimizer.lr null", "--model.optimizer.lr must not be null"),
        ("fit --config null.yaml", "--data.batch_size must not be null"),
        ("fit --model.network no.such.Network", "no.such.Network"),
        ("fit --model.lr_schedule zigzag", "zigzag"),
        ("fit --data.train_size 50000", "at most 60,000"),
        ("fit --ckpt_path gone.ckpt", "no checkpoint file gone.ckpt"),
        ("test --ckpt_path gone.ckpt", "no checkpoint file gone.ckpt"),
        ("test --ckpt_path best", "no checkpoint file best"),
        ("test", "test needs a trained network: give --ckpt_path"),
        ("validate", "validate needs a trained network"),
        ("predict", "predict needs a trained network"),
        ("test --ckpt_path other.ckpt", "other.ckpt is not a checkpoint of fmnist_lightning"),
        ("test --ckpt_path text.ckpt", "text.ckpt is not a checkpoint"),
    ],
)
def test_invalid_command_line_gives_one_error_line(
    args: str, message: str, refused: Callable[..., str]
) -> None:
    Path("broken.yaml").write_text("trainer: [")
    Path("unknown.yaml").write_text("trainer:\n  nonsense: 1\n")
    Path("null.yaml").write_text("data:\n  batch_size: null\n")
    Path("text.ckpt").write_text("hello")
    torch.save({"state_dict": {}, "hyper_parameters": {"lr": 1}}, "other.ckpt")
    assert message in refused(*args.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpu_is_reported(refused: Callable[..., str]) -> None:
    message = refused("fit", "--trainer.accelerator", "gpu")
    assert "finds no GPU" in message
    assert "leave the option out" in message


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
    options = ("--data.split_seed=2", "--model.warmup_fraction=0.1", "--data.num_workers=1")
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


def test_foreign_best_ckpt_stops_fit_before_training(refused: Callable[..., str]) -> None:
    Path("best.ckpt").write_text("precious")
    assert "best.ckpt is not from a fit in this folder" in refused("fit", *TINY)


def test_missing_dataset_is_reported(run: Run, data_dir: Path) -> None:
    shutil.rmtree(data_dir)
    code, _, err = run("fit", *TINY)
    assert code == 1
    assert "no source has a valid copy of train-images" in err
    assert "by hand" in err
    assert "Traceback" not in err
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def test_debug_shows_the_traceback(run: Run) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        run("fit", "--data.batch_size", "0", "--debug")


# ---- in a process ------------------------------------------------------------------------------


def start(*command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__main__.__file__).parent.parent)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(params=["module", "script"])
def program(request: pytest.FixtureRequest) -> list[str]:
    """Both ways to start the program."""
    if request.param == "module":
        return [sys.executable, "-m", "fmnist_lightning"]
    script = Path(sys.executable).with_name("fmnist-lightning")
    if not script.exists():
        pytest.skip("the package is not installed, so there is no console script")
    return [str(script)]


def test_process_in_an_empty_folder_reports_the_missing_checkpoint(program: list[str]) -> None:
    done = start(*program, "test", "--ckpt_path", "best.ckpt")
    assert done.returncode == 1
    assert done.stderr == "error: there is no checkpoint file best.ckpt\n"


def test_process_finds_classes_of_the_current_folder(program: list[str]) -> None:
    Path("third_party_d.py").write_text(THIRD_PARTY)
    done = start(*program, "fit", "--model.network", "third_party_d.Net", "--print_config")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["model"]["network"]["init_args"] == {"width": 8}


def test_overfit_batches_is_refused_with_an_alternative(run: Run) -> None:
    code, _, err = run("fit", *TINY, "--trainer.overfit_batches", "2")
    assert code == 1
    assert "set --data.train_size" in err
