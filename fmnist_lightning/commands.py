"""The commands of the command line, their options and help texts."""

import argparse
import difflib
import inspect
import pydoc
import re
import typing
from collections.abc import Callable
from typing import Any

import torch
from jsonargparse import DefaultHelpFormatter
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.internals.specs import class_path, to_spec
from fmnist_lightning.models.cnn import ArticleCNN
from fmnist_lightning.training import resume, runs
from fmnist_lightning.training.checkpoint import SPEC_KEYS
from fmnist_lightning.training.module import DEFAULT_OPTIMIZER, FashionClassifier

DESCRIPTION = """Trains and evaluates classifiers of Fashion-MNIST. Examples:

  fit                            Train the article's CNN. Downloads the data the first time.
  fit --config fast              Train as a config of this package says, or a file: my.yaml.
  fit --ckpt_path last           Resume the latest run.
  test --ckpt_path best.ckpt     Test the best checkpoint of the latest run.
  predict --ckpt_path best.ckpt  Write its predictions for the test images as CSV.
  predict --ckpt_path best.ckpt --photos FOLDER    Classify photos of clothes.
  demo --ckpt_path best.ckpt     Try it on a page in the browser.
  export --ckpt_path best.ckpt   Write it as an ONNX file.
  fit --print_config             Print all settings, as a config to start from.

"tensorboard --logdir runs" shows all runs of the current folder."""
COMMANDS = {
    "fit": """Trains a network. The options that are used most:

  --config NAME                  Settings of a config of this package (article, best, fast,
                                 photos, pretrained, regularized, smoke, tiny), or of a file;
                                 options after it override it.
  --trainer.max_epochs 12        Number of epochs.
  --trainer.accelerator gpu      Refuse to run without a GPU (default: use one if there is one).
  --model.network CLASS          A network: fmnist_lightning.MLP, or my_module.MyNetwork.
  --model.network.NAME VALUE     An argument of the network; --model.network.help CLASS lists them.
  --model.optimizer.lr 0.01      Learning rate.
  --data.batch_size 128          Images per step; --data.help lists all options of the data.
  --data CLASS                   A data module of your own: my_module.MyDataModule.
  --ckpt_path last               Resume the latest run where it stopped.
  --seed_everything 0            The same seed gives the same run.
  --name TEXT                    To tell its folder from others: runs/TIME_TEXT.""",
    "validate": "Evaluates a checkpoint on the validation images of its own split.",
    "test": "Evaluates a checkpoint on the test images.",
    "predict": "Writes the predictions of a checkpoint for the test images, or for photos.",
    "demo": "Serves a page on which a checkpoint classifies photos, for this machine only.",
    "export": "Writes a checkpoint as an ONNX file, and compares its predictions with PyTorch's.",
}
WITHOUT_TRAINER = ("demo", "export")
TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "max_epochs": 12,
    "enable_model_summary": False,  # the line before the first epoch says what there is to say
    "num_sanity_val_steps": 0,  # the first validation comes within seconds
    "default_root_dir": runs.ROOT,
}
OWN_TRAINER_OPTIONS = {  # arguments of create_trainer
    "compile": (False, "Train with torch.compile: steps of small networks take a fifth less."),
    "fast_loop": (True, "Leave out Lightning's hooks that do nothing. Results are the same."),
}

# What people try, and the options that are meant.
SYNONYMS = {
    "epochs": "trainer.max_epochs",
    "gpu": "trainer.accelerator gpu",
    "gpus": "trainer.accelerator gpu",
    "device": "trainer.accelerator",
    "learning_rate": "model.optimizer.lr",
    "network": "model.network",
    "resume": "ckpt_path last",
    "seed": "seed_everything",
    "workers": "data.num_workers",
    "logdir": "trainer.default_root_dir",
}


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of a description."""


def add_commands(
    parser: LightningArgumentParser, init_parser: Callable[..., LightningArgumentParser]
) -> dict[str, LightningArgumentParser]:
    """Adds all commands to the main parser; returns their own parsers by name."""
    subcommands, parsers = parser.add_subcommands(), {}
    for name, text in COMMANDS.items():
        parsers[name] = init_parser(
            description=text, formatter_class=HelpFormatter, exit_on_error=False
        )
        add_options(parsers[name], name)
        subcommands.add_subcommand(name, parsers[name], help=text.partition(".")[0] + ".")
    return parsers


def add_options(parser: LightningArgumentParser, command: str) -> None:
    """Adds the options of a command; the same option has the same name in all of them."""
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    parser.add_argument(
        "--seed_everything",
        type=bool | int,
        default=0,
        help="Seed of all random numbers; true draws one.",
    )
    parser.add_argument(
        "--num_threads",
        type=int | None,
        metavar="N",
        help="CPU threads (default: those that other programs leave free). Another number changes "
        "the last digits of results.",
    )
    what = "continue from, or `last` to resume the latest run" if command == "fit" else "use"
    parser.add_argument("--ckpt_path", type=str | None, help=f"The checkpoint to {what}.")
    name_help = "The end of the name of the run folder." if command == "fit" else argparse.SUPPRESS
    parser.add_argument("--name", type=str | None, help=name_help)
    if command == "fit":
        parser.add_lightning_class_args(FashionClassifier, "model")
        defaults: dict[str, Any] = {"network": ArticleCNN, "optimizer": DEFAULT_OPTIMIZER}
        parser.set_defaults({f"model.{key}": to_spec(value) for key, value in defaults.items()})
    else:
        # The model comes from the checkpoint. A config for `fit` may be given all the same.
        parser.add_argument("--model", type=dict | None, help=argparse.SUPPRESS)
        parser.add_argument(
            "--trust",
            nargs="+",
            default=[],
            metavar="CLASS",
            help="Classes that the checkpoint may name besides this package's and PyTorch's.",
        )
    if command == "predict":
        _add_predict_options(parser)
    parser.add_argument(
        "--data",
        type=LightningDataModule,
        default={"class_path": resume.DATA_MODULE},
        help="The data module; --data.help lists its options.",
    )
    if command == "export":
        parser.add_argument("--output", type=str, default="model.onnx", help="The file to write.")
    elif command == "demo":
        _add_demo_options(parser)
    if command in WITHOUT_TRAINER:
        parser.add_argument("--trainer", type=dict | None, help=argparse.SUPPRESS)
    else:
        parser.add_lightning_class_args(Trainer, "trainer")
        for key, (default, text) in OWN_TRAINER_OPTIONS.items():
            parser.add_argument(f"--trainer.{key}", type=bool, default=default, help=text)
        parser.set_defaults({f"trainer.{key}": v for key, v in TRAINER_DEFAULTS.items()})
    if command == "fit":
        parser.link_arguments(
            "data",
            "model.classes",
            compute_fn=lambda data: getattr(data, "classes", CLASSES),
            apply_on="instantiate",
        )


def with_suggestion(
    error: argparse.ArgumentError, args: list[str], parsers: dict[str, LightningArgumentParser]
) -> argparse.ArgumentError:
    """The error of the parser; for an unknown option with the one that was probably meant."""
    found = re.search(r"unrecognized arguments?: --?([\w.-]+)", str(error))
    command = next((each for each in args if each in parsers), None)
    if not found or not command:
        return error
    name = found[1].replace("-", "_")
    defaults = vars(parsers[command].get_defaults().as_flat())
    keys = [key.replace(".init_args", "") for key in defaults]
    last = {key.rpartition(".")[2]: key for key in reversed(keys)}
    close = difflib.get_close_matches(name, [*keys, *last], n=1, cutoff=0.75)
    key = SYNONYMS.get(name) or last.get(name) or next(iter(close), None)
    if key is None:
        return error
    return argparse.ArgumentError(None, f"{error}; did you mean --{last.get(key, key)}?")


def _add_predict_options(parser: LightningArgumentParser) -> None:
    parser.add_argument(
        "--photos",
        nargs="+",
        type=str,
        metavar="PATH",
        help="Classify photos instead of the test images: files, folders, or patterns in "
        "quotes. Photos in folders named after classes also give the accuracy.",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="With --photos, name files that are no images."
    )
    parser.add_argument(
        "--index", type=int | None, metavar="N", help="Show one test image, by its number."
    )


def _add_demo_options(parser: LightningArgumentParser) -> None:
    parser.add_argument(
        "--server_name",
        type=str,
        default="127.0.0.1",
        help="Address to serve at; 0.0.0.0 lets other machines in.",
    )
    parser.add_argument(
        "--server_port", type=int | None, help="Port (default: the first free one from 7860 on)."
    )


def check_settings(config: dict[str, Any]) -> None:
    """Raises for settings that would fail late: null, zero, and a GPU that is not there."""
    data = config["data"]
    reject_null("data", pydoc.locate(data["class_path"]), data["init_args"])
    if "trust" not in config:  # of `fit`; the others have their model from the checkpoint
        reject_null("model", FashionClassifier, config["model"])
    trainer = config["trainer"] or {}
    for key in ("check_val_every_n_epoch", "accumulate_grad_batches"):
        if (value := trainer.get(key)) is not None and value < 1:
            raise ValueError(f"--trainer.{key} must be at least 1, not {value}")
    if trainer.get("accelerator") == "gpu" and not (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    ):
        raise ValueError(
            "--trainer.accelerator gpu: PyTorch finds no GPU on this machine; leave the option "
            "out to use what there is, or install a PyTorch build that fits your GPU"
        )


def reject_null(name: str, cls: Any, settings: dict[str, Any]) -> None:
    """Raises for a setting that is null, or a function, though a value or a class is expected.

    The parser accepts both.
    """
    parameters = inspect.signature(cls).parameters
    hints = typing.get_type_hints(cls.__init__)
    for key, value in settings.items():
        nullable = key not in parameters or type(None) in typing.get_args(hints.get(key))
        if value is None and not nullable and parameters[key].default is not None:
            raise ValueError(f"--{name}.{key} must not be null; omit it to use the default")
        if key in SPEC_KEYS and value:
            # Parsed, a function without arguments is itself, and one with arguments like a class.
            found = value if callable(value) else pydoc.locate(value["class_path"])
            if callable(value) and not class_path(value).startswith("torchvision."):
                continue
            if not isinstance(found, type):
                raise ValueError(
                    f"--{name}.{key} {class_path(found)} is a function with arguments or for "
                    "color images: write a class or function without, or for torchvision take "
                    "--model.network fmnist_lightning.PretrainedNetwork "
                    "--model.network.name resnet18 --model.network.weights null"
                )
            reject_null(f"{name}.{key}", found, value.get("init_args", {}))
