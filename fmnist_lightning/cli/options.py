"""The options of the commands: parsers, help, and errors that name what was meant."""

import argparse
import inspect
import re
from collections.abc import Sequence

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from fmnist_lightning.cli.settings import (
    KNOWN_CLASSES,
    Settings,
    expand,
    find_class,
    named_classes,
)
from fmnist_lightning.cli.suggestions import closest, explain
from fmnist_lightning.data.datamodule import FashionMNISTDataModule
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.internals.specs import to_spec
from fmnist_lightning.models.cnn import ArticleCNN
from fmnist_lightning.runs import runs
from fmnist_lightning.runs.checkpoint import checkpoint_names
from fmnist_lightning.trainer import DEFAULTS as DEFAULTS_OF_TRAINER
from fmnist_lightning.trainer import as_list, create_trainer
from fmnist_lightning.training.module import DEFAULT_OPTIMIZER, FashionClassifier

DESCRIPTION = """Trains and evaluates classifiers of Fashion-MNIST. Examples:

  fit                            Train the article's CNN. Downloads the data the first time.
  fit --config fast              Train as a config of this package says, or a file: my.yaml.
  fit --ckpt_path last           Resume the latest run.
  validate --ckpt_path best.ckpt Evaluate the best checkpoint on its validation images.
  test --ckpt_path best.ckpt     Test the best checkpoint of the latest run.
  predict --ckpt_path best.ckpt  Write its predictions for the test images as CSV.
  predict --ckpt_path photos --photos FOLDER    Classify photos of clothes.
  demo                           Try a trained network on a page in the browser.
  export --ckpt_path best.ckpt   Write it as an ONNX file.
  fit --print_config             Print all settings, as a config to start from.

"COMMAND --help" explains a command; "tensorboard --logdir runs" shows all runs."""
CHECKPOINT_HELP = """
  --ckpt_path PATH               The checkpoint. `last` is that of the latest run; this package has
                                 {checkpoints}.
  --trust CLASS ...              Classes that the checkpoint may name besides this package's and
                                 PyTorch's."""
DATA_HELP = """
  --data.data_dir FOLDER         Where the images are now, if they have moved."""
HELP = {
    "fit": """Trains a network. The options that are used most:

  --config NAME                  Settings of a config of this package (article, best, fast,
                                 own-images, photos, pretrained, regularized, smoke, tiny), or of
                                 a file. Options override it.
  --trainer.max_epochs 12        Number of epochs.
  --trainer.accelerator gpu      Refuse to run without a GPU (default: use one if there is one).
  --model.network CLASS          A network: MLP, or my_module.MyNetwork.
  --model.network.NAME VALUE     An argument of the network.
  --model.optimizer CLASS        An optimizer: SGD, or my_module.MyOptimizer.
  --model.optimizer.lr 0.01      Learning rate.
  --data.batch_size 128          Images per step.
  --data CLASS                   A data module: ImageFolderDataModule, or my_module.MyDataModule.
  --trainer.callbacks+=CLASS     One more callback: EarlyStopping, or my_module.MyCallback.
  --ckpt_path last               Resume the latest run where it stopped. Another checkpoint, or
                                 one of this package such as fast: a new run from its weights.
  --seed_everything 0            The same seed gives the same run.
  --name TEXT                    To tell its folder from others: runs/TIME_TEXT.
  --print_config                 Print all settings, as a config to start from.""",
    "validate": f"""Evaluates a checkpoint on the validation images of its own split.
{CHECKPOINT_HELP}{DATA_HELP}""",
    "test": f"""Evaluates a checkpoint on the test images.
{CHECKPOINT_HELP}{DATA_HELP}""",
    "predict": f"""Writes the predictions of a checkpoint for the test images, or for photos.
{CHECKPOINT_HELP}{DATA_HELP}
  --photos PATH ...              Classify photos instead: files, folders, or patterns in quotes.
                                 In folders named after classes, they give the accuracy too.
  --index N                      Show one test image, by its number.""",
    "demo": f"""Serves a page on which a checkpoint, by default photos, classifies photos.
{CHECKPOINT_HELP}
  --server_name ADDRESS          Address to serve at; 0.0.0.0 lets other machines in.
  --server_port N                Port (default: the first free one from 7860 on).""",
    "export": f"""Writes a checkpoint as an ONNX file, and compares its predictions with PyTorch's.
{CHECKPOINT_HELP}
  --output model.onnx            The file to write.""",
}
MORE_HELP = """
  --num_threads N                CPU threads (default: those that other programs leave free).
                                 Another number changes the last digits of results.
  --debug                        Show the traceback of an error.
  --help all                     All options.
  --help CLASS                   The options of a class: FashionMNISTDataModule, AdamW, ..."""
DEFAULTS: Settings = {
    "data": to_spec(FashionMNISTDataModule),
    "model": {"network": to_spec(ArticleCNN), "optimizer": to_spec(DEFAULT_OPTIMIZER)},
}
METRICS = ("train/loss", "train/acc", "val/loss", "val/acc", "val/ece")  # after each epoch
NO_TRAINER = ("demo", "export")  # commands without the options of a trainer, and without data
TRAINER_DEFAULTS = {
    "trainer.devices": 1,
    "trainer.max_epochs": 12,
    "trainer.default_root_dir": runs.ROOT,
    **{f"trainer.{name}": value for name, value in DEFAULTS_OF_TRAINER.items()},
}


def read_early(command: str, args: Sequence[str]) -> tuple[Namespace, list[str]]:
    """What must be known before there is a parser, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    parser.add_argument("--ckpt_path", default="photos" if command == "demo" else None)
    parser.add_argument("--trust", nargs="+", action="extend", default=[])
    parser.add_argument("--trainer.default_root_dir", default=argparse.SUPPRESS)
    for option in KNOWN_CLASSES:
        if option != "trainer.callbacks":  # several may be given
            parser.add_argument(f"--{option}", type=yaml.safe_load, default=argparse.SUPPRESS)
    return parser.parse_known_args(args, Namespace())  # type: ignore[no-untyped-call]


def early_settings(early: Namespace) -> Settings:
    """The classes and the folder of runs among early options, in the form of a config."""
    sections = early.as_dict()
    return expand({key: sections[key] for key in ("data", "model", "trainer") if key in sections})


def build_parser(command: str, classes: Sequence[str] | None = None) -> LightningArgumentParser:
    """The parser of a command; networks have the ``classes`` of a checkpoint, or of the data."""
    parser = LightningArgumentParser(
        prog=f"fmnist_lightning {command}",
        usage=f"fmnist_lightning {command} [options]",
        description="",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", action="config")
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--seed_everything", type=bool | int, default=0)
    parser.add_argument("--num_threads", type=int | None)
    if command not in NO_TRAINER:
        text = "By default Fashion-MNIST, or that of the checkpoint."
        parser.add_argument("--data", type=LightningDataModule, help=text)
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.add_function_arguments(
            create_trainer,
            "trainer",
            as_group=False,
            skip={"run_dir", "default_root_dir", "logger", "callbacks", "num_threads"},
        )
        parser.set_defaults(TRAINER_DEFAULTS)
    if command == "fit":
        parser.add_argument("--name", type=str | None)
        parser.add_lightning_class_args(FashionClassifier, "model")
        parser.link_arguments(
            "data",
            "model.classes",
            compute_fn=lambda data: classes or list(map(str, getattr(data, "classes", CLASSES))),
            apply_on="instantiate",
        )
    elif command == "predict":
        parser.add_argument("--photos", nargs="+", type=str)
        parser.add_argument("--index", type=int | None)
    elif command == "export":
        parser.add_argument("--output", type=str, default="model.onnx")
    elif command == "demo":
        parser.add_argument("--server_name", type=str, default="127.0.0.1")
        parser.add_argument("--server_port", type=int | None)
    return parser


def parse(parser: LightningArgumentParser, settings: Settings, args: Sequence[str]) -> Namespace:
    """Parses arguments on top of settings; an error names what was meant."""
    text = yaml.safe_dump(settings, sort_keys=False)
    try:
        config = parser.parse_args(["--config", text, *args])
    except argparse.ArgumentError as error:
        # Of several callbacks, the parser finds the classes itself, but has no suggestion.
        if match := re.search(r'"trainer.callbacks":\s+- Expected a path but (\S+)', str(error)):
            find_class("trainer.callbacks", match[1])
        for option, section, key in named_classes(settings):  # which have options of their own
            if isinstance(section[key], dict) and "class_path" in section[key]:
                parser.set_defaults({option: {"class_path": section[key]["class_path"]}})
        names = vars(parser.get_defaults().as_flat())
        raise argparse.ArgumentError(None, explain(str(error), names)) from error
    check_arguments(config)
    return config


def check_arguments(config: Namespace) -> None:
    """Raises ArgumentError for a missing argument without a type, which the parser sets to None."""
    for option, section, key in named_classes(config.as_dict()):
        if not isinstance(spec := section[key], dict):  # no class, or several callbacks
            continue
        parameters = inspect.signature(find_class(option, spec["class_path"])).parameters
        for name, value in spec.get("init_args", {}).items():
            parameter = parameters.get(name)  # None for one of **kwargs
            is_bare = parameter and parameter.default is parameter.annotation is parameter.empty
            if value is None and is_bare:
                raise argparse.ArgumentError(None, f"--{option}.{name} is missing")


def check_trainer(trainer: Namespace) -> None:
    """Raises for what would fail late: no GPU, or a metric that does not exist."""
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if trainer.accelerator == "gpu" and not has_gpu:
        raise ValueError(
            "--trainer.accelerator gpu: PyTorch finds no GPU on this machine; leave the option "
            "out to use what there is, or install a PyTorch build that fits your GPU"
        )
    for callback in as_list(trainer.callbacks):
        monitor = callback.get("init_args", {}).get("monitor")
        meant = closest(monitor, METRICS) if monitor and monitor not in METRICS else None
        if meant:
            name = callback.class_path.rpartition(".")[2]
            raise ValueError(
                f"{name} monitors {monitor}, which is not logged; did you mean {meant}? "
                f"There are {', '.join(METRICS)}"
            )


def print_help(command: str, topic: str) -> None:
    """Prints the options that are used most, all of them, or those of a class."""
    parser = build_parser(command)
    for option, paths in KNOWN_CLASSES.items():
        for path in paths:
            if topic == path.rpartition(".")[2]:
                parser.parse_args([f"--{option}.help={path}"])  # prints, and exits
    print(HELP[command].format(checkpoints=", ".join(checkpoint_names())) + MORE_HELP)
    if topic == "all":
        parser.print_help()
