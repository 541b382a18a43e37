"""The command line: each command is a function."""

import contextlib
import functools
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer, seed_everything

from fmnist_lightning import __version__
from fmnist_lightning.cli import messages, options
from fmnist_lightning.cli.settings import Settings, merge, read_config
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.specs import find_difference, require_trust
from fmnist_lightning.internals.threads import set_num_threads
from fmnist_lightning.runs import runs
from fmnist_lightning.runs.checkpoint import Checkpoint, checkpoint_names
from fmnist_lightning.runs.run_checkpoint import RunCheckpoint
from fmnist_lightning.trainer import as_list, create_trainer, is_rank_zero
from fmnist_lightning.training.outputs import PredictionWriter


def run(args: Sequence[str]) -> None:
    """Runs a command line."""
    command, *args = args or ["--help"]
    if command in ("-h", "--help", "--version"):
        version = f"fmnist_lightning {__version__}"
        print(version if command == "--version" else options.DESCRIPTION)
        return
    if command not in COMMANDS:
        names = ", ".join(COMMANDS)
        raise ArgumentError(None, f"there is no command {command!r}; choose one of {names}")
    if "-h" in args or "--help" in args:
        options.print_help(command, args[-1])
        return

    early, others = options.read_early(command, args)
    root = runs.find_root(early.get("trainer.default_root_dir"))
    path = runs.find_latest(root) if early.ckpt_path == "last" else early.ckpt_path
    checkpoint = None if path is None else Checkpoint(path, root)
    trusted = [*early.trust, early.get("data")]  # a class that an option names is trusted
    start = starting_settings(command, checkpoint, trusted)
    sources = [start, *map(read_config, early.config), options.early_settings(early)]
    settings = functools.reduce(merge, sources)
    lacking = [] if command == "fit" else ["model", "name"]
    lacking += ["trainer", "data"] if command in options.NO_TRAINER else []
    dropped = {key: settings.pop(key, {}) for key in lacking}  # a config written for fit has them
    classes = checkpoint.content["hyper_parameters"].get("classes") if checkpoint else None
    parser = options.build_parser(command, classes)
    config = options.parse(parser, settings, others)
    if "trainer" in config:
        options.check_trainer(config.trainer)
    if command != "fit":
        check_evaluation(command, checkpoint, dropped["model"], config)
    config.num_threads = set_num_threads(config.num_threads)  # the config of a run has it
    if (seed := config.seed_everything) is not False:
        config.seed_everything = seed_everything(None if seed is True else seed, workers=True)
    if used := as_list(config.get("trainer.callbacks")):  # a resumed run may have them already
        config["trainer.callbacks"] = [one for num, one in enumerate(used) if one not in used[:num]]
    objects = parser.instantiate_classes(config)
    if command == "fit":
        objects.config_text = parser.dump(config, skip_none=False)
        messages.print_start(checkpoint, args, sources, objects.config_text)
    else:
        assert checkpoint is not None  # see check_evaluation
        objects.model = checkpoint.build_classifier(early.trust)
        print_line(checkpoint.describe(objects.model))
    COMMANDS[command](objects, checkpoint)


def starting_settings(
    command: str, checkpoint: Checkpoint | None, trusted: Sequence[str]
) -> Settings:
    """The settings that configs and options change: defaults, or those of a checkpoint."""
    if checkpoint is None:
        return options.DEFAULTS
    if command in options.NO_TRAINER:
        return {}
    if command == "fit" and checkpoint.run_dir:
        if (path := checkpoint.run_dir / runs.CONFIG).is_file():
            return read_config(str(path))
        if checkpoint.is_last:
            raise ValueError(
                f"{checkpoint.run_dir} has no {runs.CONFIG}, as the run of a script: resume it "
                "with the script"
            )
    data = checkpoint.content.get("data")
    require_trust(data, trusted)
    saved = {"data": data} if data else {}
    if command != "fit":
        return saved
    if checkpoint.is_of_package:  # the parser imports what a file names
        saved["model"] = dict(checkpoint.content["hyper_parameters"])
        del saved["model"]["classes"]
    return merge(options.DEFAULTS, saved)


def check_evaluation(
    command: str, checkpoint: Checkpoint | None, model: Settings, config: Namespace
) -> None:
    """Raises ValueError if a network or data lack, or options conflict."""
    if checkpoint is None:
        names = ", ".join(checkpoint_names())
        raise ValueError(
            f"{command} needs a trained network: give --ckpt_path best.ckpt, another checkpoint "
            f"that fit has saved, or one of this package: {names}"
        )
    if difference := find_difference(model, checkpoint.content["hyper_parameters"], "model"):
        name, here, in_checkpoint = difference
        raise ValueError(
            f"--{name} {here} conflicts with the checkpoint {checkpoint.path} ({in_checkpoint}); "
            "remove the option or the config"
        )
    if config.get("photos") and config.index is not None:
        raise ValueError("--photos and --index are mutually exclusive")
    if "data" in config and config.data is None and not config.get("photos"):
        raise ValueError(
            "the checkpoint does not say which data module it was trained with: give --data CLASS"
        )


def fit(args: Namespace, checkpoint: Checkpoint | None) -> None:
    """Trains; says where the results are, or how to resume a run that ends early."""
    if checkpoint:  # a new run starts from them; those of a resumed one are loaded to see they fit
        checkpoint.load_weights(args.model)
    resumed = checkpoint if checkpoint and checkpoint.is_last else None  # else it is a new run
    first_step = resumed.step if resumed else 0
    name = args.name or type(args.model.network).__name__
    new_dir = None if resumed else _create_run_dir(args, name)
    trainer: Trainer | None = None
    try:
        trainer = create_trainer(
            run_dir=resumed.run_dir if resumed else new_dir,
            num_threads=args.num_threads,
            **args.trainer,
        )
        callbacks = trainer.checkpoint_callbacks
        saver = next((each for each in callbacks if isinstance(each, RunCheckpoint)), None)
        should_save = trainer.is_global_zero and saver is not None
        if saver:
            saver.data_spec = yaml.safe_load(args.config_text)["data"]
        if new_dir:
            (new_dir / runs.CONFIG).write_text(args.config_text, encoding="utf-8")
        elif saver:
            saver.config = args.config_text
        path = resumed.path if resumed else None
        with runs.lock(Path(trainer.default_root_dir)) if should_save else contextlib.nullcontext():
            trainer.fit(args.model, datamodule=args.data, ckpt_path=path)
    except BaseException:
        if trainer is None or trainer.global_step == first_step:
            runs.remove(new_dir)
        raise
    if resumed and trainer.global_step == first_step:
        print_line(f"The run is already complete (step {first_step:,}); nothing to train")
    if saver and should_save:
        root = runs.find_root(args.trainer.default_root_dir)
        print_line(messages.format_fit_summary(trainer, saver, root))


@contextlib.contextmanager
def evaluation(args: Namespace, checkpoint: Checkpoint) -> Iterator[tuple[Trainer, Path | None]]:
    """A trainer, and the folder for results: that of the run.

    A checkpoint without a run gets a new folder, a dry run (``fast_dev_run``) none.
    """
    new_dir = None if checkpoint.run_dir else _create_run_dir(args)
    run_dir = None if args.trainer.fast_dev_run else checkpoint.run_dir or new_dir
    kwargs = {**args.trainer, "enable_checkpointing": False}
    if kwargs["logger"] in (None, True) and run_dir:
        from fmnist_lightning.reports import RunTensorBoardLogger

        # The curves of an epoch are at its last step, which Lightning counts from 0.
        kwargs["logger"] = RunTensorBoardLogger(run_dir, step=max(checkpoint.step - 1, 0))
    try:
        trainer = create_trainer(run_dir=run_dir, num_threads=args.num_threads, **kwargs)
        yield trainer, run_dir
    except BaseException:
        runs.remove(new_dir)
        raise


def _create_run_dir(args: Namespace, name: str | None = None) -> Path | None:
    """A new run folder; None on the ranks that write nothing, and in a dry run."""
    if args.trainer.fast_dev_run or not is_rank_zero():
        return None
    return runs.create_run_dir(runs.find_root(args.trainer.default_root_dir), name)


def validate(args: Namespace, checkpoint: Checkpoint) -> None:
    """Evaluates on the validation images; a callback prints the metrics."""
    with evaluation(args, checkpoint) as (trainer, _):
        trainer.validate(args.model, datamodule=args.data, verbose=False)


def test(args: Namespace, checkpoint: Checkpoint) -> None:
    """Evaluates on the test images; a callback prints the metrics."""
    with evaluation(args, checkpoint) as (trainer, _):
        trainer.test(args.model, datamodule=args.data, verbose=False)


def predict(args: Namespace, checkpoint: Checkpoint) -> None:
    """Predicts the test images, or photos; a callback writes the predictions."""
    args.trainer.logger = args.trainer.logger or False
    with evaluation(args, checkpoint) as (trainer, run_dir):
        if trainer.world_size > 1:
            raise ValueError(f"predict runs on one device, not on {trainer.world_size}")
        if args.photos is None:
            writer = PredictionWriter(run_dir, args.index)
            trainer.callbacks.append(writer)  # type: ignore[attr-defined]
            trainer.predict(args.model, args.data, return_predictions=False)
            return
        from fmnist_lightning.photos import PhotoClassifier
        from fmnist_lightning.photos.dataset import PhotoDataset, photo_loader
        from fmnist_lightning.photos.report import PhotoReport

        photos = PhotoDataset(args.photos, args.model.classes)
        report = PhotoReport(photos, run_dir, checkpoint.path)
        trainer.callbacks.append(report)  # type: ignore[attr-defined]
        trainer.predict(PhotoClassifier(args.model), photo_loader(photos), return_predictions=False)
    if report.num_skipped:
        total = f"{report.num_skipped:,} of {len(photos):,}"
        raise ValueError(f"skipped {total} photos, see above")


def demo(args: Namespace, checkpoint: Checkpoint) -> None:
    """Serves a page in the browser to try the network."""
    from fmnist_lightning.demo.page import serve

    print_line(f"With --ckpt_path, also a file, or {', '.join(checkpoint_names())}")
    about = checkpoint.describe(args.model)
    serve(args.model, about, args.server_name, args.server_port)


def export(args: Namespace, checkpoint: Checkpoint) -> None:
    """Writes the ONNX file, and compares it with PyTorch."""
    from fmnist_lightning.export.onnx import export_and_compare

    export_and_compare(args.model, Path(args.output))


COMMANDS: dict[str, Callable[[Namespace, Any], None]] = {
    command.__name__: command for command in (fit, validate, test, predict, demo, export)
}
