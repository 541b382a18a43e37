import pytest
import yaml
from samples import CONFIGS, TINY_OPTIONS, train_teacher


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_is_parsed_without_losing_a_setting(path, print_config):
    assert_contains(print_config("--config", str(path)), yaml.safe_load(path.read_text()))


def assert_contains(whole, part):
    if isinstance(part, dict):
        # The short form of `data` leaves class_path and init_args out.
        whole = whole.get("init_args", whole) if "class_path" not in part else whole
        for key, value in part.items():
            assert_contains(whole[key], value)
    elif isinstance(part, list):
        for one, other in zip(whole, part, strict=True):
            assert_contains(one, other)
    else:
        assert whole == part


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem == "pretrained" else [])
        for path in CONFIGS
    ],
    ids=lambda path: path.name,
)
def test_config_trains_and_tests(path, fit, run):
    train_teacher(path, fit)
    two_epochs = ("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "1")
    fit("--config", str(path), *TINY_OPTIONS, *two_epochs)
    assert run("test", "--ckpt_path", "best.ckpt")[0] == 0
