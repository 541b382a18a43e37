"""What README.md and the pages of docs/ show is true: commands, output, scripts, numbers, links."""

import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import common
import pytest
from conftest import TINY
from PIL import Image
from samples import photo

from fmnist_lightning.data.download import DataError, download
from fmnist_lightning.runs.checkpoint import read_checkpoint
from fmnist_lightning.training.outputs import format_metrics

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fmnist_lightning"
README = (ROOT / "README.md").read_text()
LIBRARY = (ROOT / "docs" / "library.md").read_text()
MODELS = (ROOT / "docs" / "models.md").read_text()
OWN_DATA = (ROOT / "docs" / "own-data.md").read_text()
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
COMMAND = "python -m fmnist_lightning "


def blocks(page, language):
    """The code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def commands(page):
    """The arguments of this package's commands in the shell blocks of a page."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", "").splitlines()
    return [
        shlex.split(line.removeprefix(COMMAND), comments=True)
        for line in lines
        if line.startswith(COMMAND)
    ]


def section(title):
    """The text of the README below a heading."""
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def execute(script, page):
    """Runs a script of a page with the split of the tiny dataset; returns its global names."""
    name = "FashionMNISTDataModule("
    script = script.replace(name, f"{name}train_size=480, val_size=120, ")
    names = {"__name__": "script"}
    exec(compile(script, page, "exec"), names)
    return names


@pytest.fixture
def my_module(monkeypatch, tmp_path):
    """The module of docs/library.md, in the current folder."""
    (script,) = (each for each in blocks(LIBRARY, "python") if each.startswith("# my_module.py"))
    Path("my_module.py").write_text(script)
    monkeypatch.syspath_prepend(tmp_path)


# ---- links, targets, options -------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)", path.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_readme_links_every_page_of_docs():
    for page in (*ROOT.glob("docs/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        assert f"({page.relative_to(ROOT)})" in README


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for page in PAGES:
        found = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)
        assert set(found) <= set(targets), page


# ---- numbers -----------------------------------------------------------------------------------


def test_output_of_the_readme_is_that_of_the_saved_run():
    saved = json.loads((common.RESULTS / "default.json").read_text())["runs"][0]
    (console,) = blocks(README, "console")
    fit, test = console.split(f"$ {COMMAND}")[1:]
    assert f"epoch {saved['epochs']}/{saved['epochs']} " in fit
    loss, accuracy = saved["validate"]["loss"], 100 * saved["curve"][-1][1]
    assert f"(val loss {loss:.4f})" in fit
    assert f"acc {accuracy:.2f} %  improved from" in fit
    lines = [line for line in test.splitlines()[1:] if line != "..."]
    expected = format_metrics("test", saved["test"]).splitlines()
    assert lines == [line for line in expected if line in lines]
    assert lines[1] == "test accuracy 89.37 % (8,937/10,000)"


# ---- commands ----------------------------------------------------------------------------------


def skeleton(text):
    """Lines of output without their numbers, spaces and what depends on them."""
    for line in text.splitlines():
        yield re.sub(r"[\d,._-]+", "#", " ".join(line.partition("  improved")[0].split()))


def test_quickstart_prints_what_the_readme_shows(run):
    fit, test, gpu, *_ = commands(section("Quickstart"))
    assert [" ".join(command) for command in (fit, test, gpu)] == [
        "fit",
        "test --ckpt_path best.ckpt",
        "fit --trainer.accelerator gpu",
    ]
    assert "PyTorch finds no GPU on this machine" in run(*gpu)[2]
    (console,) = blocks(README, "console")
    for part in console.split(f"$ {COMMAND}")[1:]:
        command, _, shown = part.partition("\n")
        code, out, err = run(*command.split(), *(TINY if command == "fit" else ()))
        assert code == 0, err
        printed = skeleton(out)
        for line in skeleton(shown):
            assert line == "#" or line in printed, line  # `in` moves on: the order counts


def test_first_contact_needs_neither_training_nor_data(run, tmp_path, monkeypatch):
    for folder in ("FOLDER", "my_photos"):
        (tmp_path / "empty" / folder).mkdir(parents=True)
        photo().save(tmp_path / "empty" / folder / "photo.jpg")
    monkeypatch.chdir("empty")  # where no data is, and none can be downloaded
    first = commands(README)[0]
    others = [args for args in commands(MODELS) if args[0] in ("predict", "export")]
    assert [first[0], *(args[0] for args in others)] == ["predict", "predict", "export"]
    for args in (first, *others):
        code, out, err = run(*args)
        assert code == 0, err
        assert out.startswith(f"{args[2]}: of this package, ")
    assert not Path("data").exists()
    execute(blocks(MODELS, "python")[0], "docs/models.md")


@pytest.mark.real
@pytest.mark.slow
def test_commands_of_the_models_page_run_on_the_real_data(run):
    try:
        download("data")
    except DataError as error:
        pytest.skip(str(error))
    test, _, _, fit = commands(MODELS)
    assert run(*test)[1].splitlines()[2].startswith("test accuracy 94.1")
    code, out, err = run(*fit, "--trainer.limit_train_batches=20")
    assert code == 0, err
    losses = re.findall(r"val loss (\S+) acc", out)
    assert float(losses[0]) == pytest.approx(0.155, abs=0.01)  # it begins where `fast` ended


ROWS = re.findall(r"^\| [\w ]+ \| `(--[^`]*)` \|$", section("Change it"), flags=re.MULTILINE)


@pytest.fixture
def my_images(data_dir):
    """The folder of images of docs/own-data.md, made by its script."""
    execute(blocks(OWN_DATA, "python")[-1], "docs/own-data.md")
    Path("shoe_images").rename("my_images")


@pytest.mark.slow
@pytest.mark.usefixtures("my_images")
def test_commands_and_scripts_of_the_own_data_page_agree(run, capsys):
    fit, test, predict, export, _ = commands(OWN_DATA)
    limit = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=4")
    code, _, err = run(*fit, *limit)
    assert code == 0, err
    code, out, err = run(*test)
    assert code == 0, err
    assert re.findall(r"^  (\w[\w ]*?)  ", out, re.MULTILINE) == ["Ankle boot", "Sandal", "Sneaker"]
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    path = sorted(Path("my_images/test/Sandal").iterdir())[0]
    Image.open(path).resize((90, 60)).save("new.jpg", exif=exif)
    code, out, err = run(*predict)
    assert code == 0, err
    (label, percent) = re.findall(r"^new.jpg  (.+?) ([\d.]+) %", out, re.MULTILINE)[0]
    train, in_python, without_pytorch, _ = blocks(OWN_DATA, "python")
    prediction = execute(in_python, "docs/own-data.md")["prediction"]
    assert prediction.label == label
    assert prediction.confidence == pytest.approx(float(percent) / 100, abs=1e-3)
    assert run(*export)[0] == 0
    probabilities = execute(without_pytorch, "docs/own-data.md")["probabilities"]
    assert probabilities.max() == pytest.approx(prediction.confidence, abs=1e-5)
    assert capsys.readouterr().out.endswith(f"{label}\n")
    saved = read_checkpoint("best.ckpt")["hyper_parameters"]
    execute(
        train.replace("(max_epochs=12)", "(max_epochs=1, limit_train_batches=1)"), "own-data.md"
    )
    assert read_checkpoint("best.ckpt")["hyper_parameters"] == saved  # the settings of the config


@pytest.mark.usefixtures("my_module", "my_images")
@pytest.mark.parametrize("options", ROWS)
def test_each_change_trains(options, run):
    sizes = ("--trainer.log_every_n_steps", "5") if "--data " in options else TINY
    quick = ("--trainer.max_epochs", "1", "--trainer.logger", "false")  # no figures: faster
    code, out, err = run("fit", *quick, *sizes, *options.split())
    assert code == 0, err
    assert "epoch  1/1" in out


def test_commands_of_the_tables_and_of_the_resume_page_run(fit, run):
    found = re.findall(r"`((?:validate|test|predict) --.*?)`", section("From the tutorial"))
    assert len(found) == 2
    fit()
    for command in found:
        assert run(*command.split())[0] == 0, command
    ((resume),) = commands((ROOT / "docs" / "resume-and-faults.md").read_text())
    code, out, err = run(*resume)
    assert code == 0, err
    assert out.startswith("Resuming runs/")


@pytest.mark.usefixtures("my_module")
def test_commands_of_the_library_page_run(run):
    for args in commands(LIBRARY):
        sizes = () if "--data" in args else TINY
        if args[0] == "fit":
            args += [*sizes, "--trainer.max_epochs=1", "--trainer.log_every_n_steps=5"]
        code, out, err = run(*args)
        assert code == 0, err
    (test,) = re.findall(rf"Next: +{COMMAND}(.*)", out)
    code, out, _ = run(*test.split())
    assert code == 0
    assert "  bright " in out


def test_options_of_all_pages_exist(print_config):
    config = print_config()
    config["data"] = config["data"]["init_args"]
    for page in PAGES:
        for group, name in re.findall(r"--(model|data|trainer)\.(\w+)", page.read_text()):
            assert name in config[group], f"{page.name}: --{group}.{name}"


# ---- scripts -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("data_dir")
def test_script_of_the_readme_runs(capsys):
    (script,) = blocks(README, "python")
    execute(script, "README.md")
    lines = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"'[^']+'", lines[-1])) == 5
    assert any(line.startswith("epoch  3/3") for line in lines)
    assert any(re.fullmatch(r"test accuracy .* % \(\d+/105\)", line) for line in lines)


@pytest.mark.filterwarnings("ignore")  # of Optuna
@pytest.mark.usefixtures("data_dir")
def test_script_of_the_tuning_page_runs_twice(capsys, monkeypatch):
    optuna = pytest.importorskip("optuna", reason="needs the extra tuning")
    (script,) = blocks((ROOT / "docs" / "tuning.md").read_text(), "python")
    monkeypatch.setattr("sys.argv", ["tune.py"])
    # Every trial but the first of a study is unpromising.
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number > 0)
    for num_trials in (2, 4):
        execute(script.replace("n_trials=20", "n_trials=2"), "docs/tuning.md")
        study = optuna.load_study(study_name="fmnist", storage="sqlite:///tuning.db")
        states = [trial.state.name for trial in study.trials]
        assert states == ["COMPLETE", *["PRUNED"] * (num_trials - 1)]
    score = study.trials[0].value
    assert f"{score} {{'lr': " in capsys.readouterr().out
    assert len(list(Path("tuning").iterdir())) == 4


@pytest.mark.usefixtures("data_dir")
def test_study_of_the_tuning_page_survives_a_diverged_trial(monkeypatch):
    def optimize(objective, n_trials, catch):
        with pytest.raises(catch, match="the loss became NaN or infinite at step"):
            objective(SimpleNamespace(suggest_float=lambda name, *_, **__: 1e30 * (name == "lr")))

    study = SimpleNamespace(optimize=optimize, best_value=0, best_params={})
    stub = SimpleNamespace(create_study=lambda **_: study)
    monkeypatch.setitem(sys.modules, "optuna", stub)  # which may not be installed
    monkeypatch.setattr("sys.argv", ["tune.py"])
    (script,) = blocks((ROOT / "docs" / "tuning.md").read_text(), "python")
    execute(script, "docs/tuning.md")


@pytest.mark.usefixtures("data_dir", "my_module")
def test_scripts_of_the_library_page_run(fit, capsys):
    fit()
    for script in blocks(LIBRARY, "python"):
        capsys.readouterr()
        execute(script, "docs/library.md")
        if "predict_images" in script:
            predictions = capsys.readouterr().out.splitlines()[-5:]
            assert all(re.fullmatch(r"[\w/ -]+ 0\.\d+", line) for line in predictions)
    resumable = next(s for s in blocks(LIBRARY, "python") if "last.exists()" in s)
    assert execute(resumable, "docs/library.md")["trainer"].global_step == 12  # nothing to do
