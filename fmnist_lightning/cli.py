"""The command line: puts the parts together for ``fit``, ``validate``, ``test`` and ``predict``."""

import contextlib
import gc
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from fmnist_lightning.data.datamodule import FashionMNISTDataModule
from fmnist_lightning.defaults import DESCRIPTION, ROOT, SEED, TRAINER_DEFAULTS, HelpFormatter
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.fast_loop import FastEpochLoop
from fmnist_lightning.internals.specs import ALLOWED_PACKAGES, is_allowed, to_spec
from fmnist_lightning.internals.stopping import (
    TerminateOnNonFinite,
    is_dead_rank_error,
    signal_exit_code,
)
from fmnist_lightning.options import Origin, changes, check_agreement, find_origin, refuse_null
from fmnist_lightning.photos.images import PhotoDataset, photo_loader
from fmnist_lightning.photos.report import PhotoReport
from fmnist_lightning.tensorboard.callback import (
    FixedStepTensorBoardLogger,
    TensorBoardSetup,
    hyperparameters,
)
from fmnist_lightning.tensorboard.evaluation import TensorBoardEvaluation
from fmnist_lightning.training import runs
from fmnist_lightning.training.callbacks import EpochSummary, EvaluationSummary
from fmnist_lightning.training.checkpoint import (
    SPEC_KEYS,
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    load_weights,
    read_checkpoint,
)
from fmnist_lightning.training.module import FashionClassifier
from fmnist_lightning.training.predictions import PredictionWriter


class SaveRunConfig(SaveConfigCallback):
    """Saves the whole config of a ``fit`` into the folder of its run."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes ``config.yaml``; a run that is resumed keeps the one it has."""
        path = Path(trainer.default_root_dir) / "config.yaml"
        if stage == "fit" and not path.exists():
            self.parser.save(self.config, path, skip_none=False)


class FashionCLI(LightningCLI):
    """``LightningCLI`` with this project's defaults, run folders and rules for checkpoints.

    Args:
        args: The command line, without the name of the program.
    """

    def __init__(self, args: list[str]) -> None:
        self.new_run_dir: Path | None = None
        self.origin: Origin | None = None  # what --ckpt_path leads to
        self.photos: PhotoDataset | None = None
        self.photo_report: PhotoReport | None = None
        raising: dict[str, Any] = {"exit_on_error": False}  # main() prints what is wrong
        parsers = raising | {
            "prog": "fmnist_lightning",
            "description": DESCRIPTION,
            "formatter_class": HelpFormatter,
        }
        try:
            super().__init__(
                FashionClassifier,
                FashionMNISTDataModule,
                save_config_callback=SaveRunConfig,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults=TRAINER_DEFAULTS,
                seed_everything_default=SEED,
                parser_kwargs=parsers | {name: dict(raising) for name in self.subcommands()},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=args,
            )
        finally:
            if self.new_run_dir is not None:
                with contextlib.suppress(OSError):
                    self.new_run_dir.rmdir()  # only where it is empty: the run came to nothing
                    self.new_run_dir.parent.rmdir()

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, each with what its ``Trainer`` method takes and is not an option."""
        ours = {"weights_only", "verbose", "return_predictions"}
        return {name: skip | ours for name, skip in LightningCLI.subcommands().items()}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--debug``, and the default network and optimiser as configs have them."""
        parser.add_argument(
            "--debug", action="store_true", help="Show the traceback of an error, not one line."
        )
        parser.add_argument(
            "--trust",
            nargs="+",
            default=[],
            metavar="CLASS",
            help="Classes that the checkpoint may name besides this package's and PyTorch's.",
        )
        parameters = inspect.signature(FashionClassifier).parameters
        defaults = {key: parameters[key].default for key in SPEC_KEYS}
        parser.set_defaults(
            {f"model.{key}": to_spec(value) for key, value in defaults.items() if value}
        )

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        """Adds what ``predict`` has besides the arguments of ``Trainer.predict``."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_argument(
                "--photos",
                nargs="+",
                type=str,
                metavar="PATH",
                help="Answer photos in place of the test pictures: files, folders, or patterns in "
                "quotes. Photos in folders named after classes also give the accuracy.",
            )
            parser.add_argument(
                "--index",
                type=int,
                metavar="N",
                help="Show one test picture with its answer, by its number, 0 to 9999.",
            )
        return parser

    # ---- parsing -------------------------------------------------------------------------------

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line, on top of what the checkpoint says where one is given.

        Raises:
            ValueError: If a checkpoint is missing, can't be used, or is contradicted.
        """
        at = next((i for i, arg in enumerate(args) if arg in self.subcommands()), len(args) - 1)
        head, options = args[: at + 1], args[at + 1 :]
        self.origin = find_origin(options)
        if self.origin is None:
            self.config = parser.parse_args(args)
            command = self.config.subcommand
            if command != "fit":
                raise ValueError(
                    f"{command} needs a trained network: give --ckpt_path best.ckpt, or another "
                    "checkpoint that fit has saved"
                )
            return
        self.config = parser.parse_args([*head, *self.origin.options, *options])
        command = self.config.subcommand
        self.config[command]["ckpt_path"] = self.origin.path
        trained = parser.parse_args([*head, *self.origin.options])
        check_agreement(self.origin, trained[command], self.config[command])
        if self._resumes() and _is_rank_zero():
            changed = changes(trained[command], self.config[command])
            done = self.origin.checkpoint["global_step"]
            print_line(
                f"going on with {self.origin.run_dir} after step {done:,}" + "".join(changed)
            )

    def _parse_ckpt_path(self) -> None:
        """Does nothing: ``parse_arguments`` has done it, with checks that the base class lacks."""

    # ---- building ------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        """Finds out early what would fail late.

        Raises:
            ValueError: If there is no GPU where one is asked for, a setting is null that must not
                be, or ``best.ckpt`` is not ours.
        """
        for part, cls in (("model", FashionClassifier), ("data", FashionMNISTDataModule)):
            refuse_null(part, cls, self._get(self.config, part).as_dict())
        trainer = self._get(self.config, "trainer")
        if trainer.accelerator == "gpu" and not (
            torch.cuda.is_available() or torch.backends.mps.is_available()
        ):
            raise ValueError(
                "--trainer.accelerator gpu: PyTorch finds no GPU on this machine; leave the option "
                "out to use what there is, or install a PyTorch build that fits your GPU"
            )
        if self.subcommand == "fit" and _saves(trainer) and _is_rank_zero():
            runs.check_overwrite(Path(trainer.default_root_dir))

    def instantiate_classes(self) -> None:
        """Builds everything, and loads the checkpoint's weights once to see that they fit."""
        super().instantiate_classes()
        if self.origin is not None:
            load_weights(self.model, self.origin.checkpoint, self.origin.path)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the trainer, with this project's logger and callbacks beside the user's own."""
        config = self._get(self.config_init, "trainer")
        dry = bool(config.fast_dev_run)  # leaves nothing on the disk
        run_dir = Path(config.default_root_dir) if dry else self._make_run_dir()
        logger = config.logger
        if logger is None or logger is True:
            logger = self.subcommand != "predict" and FixedStepTensorBoardLogger(
                run_dir, *self._steps()
            )
        callbacks = _as_list(config.callbacks)
        if self.subcommand == "fit":
            callbacks.insert(0, TerminateOnNonFinite())
        if config.enable_progress_bar is not False and not any(
            isinstance(callback, ProgressBar) for callback in callbacks
        ):
            # In a file or a pipe, the bar would be thousands of lines; those of the epochs remain.
            callbacks.append(TQDMProgressBar(refresh_rate=10 if sys.stdout.isatty() else 0))
        if self.subcommand != "predict" and logger is not False and not dry:
            callbacks.append(TensorBoardEvaluation())
        if self.subcommand == "fit":
            callbacks.append(EpochSummary())
            if logger is not False and not dry and not self._steps()[1]:
                compared = hyperparameters(self.config["fit"])
                callbacks.append(TensorBoardSetup(run_dir / "config.yaml", compared))
            if _saves(config):
                folder = run_dir / runs.CHECKPOINTS
                callbacks += [BestCheckpoint(folder), LastCheckpoint(folder)]
        elif self.subcommand == "predict":
            callbacks.append(self._predictor(None if dry else run_dir))
        else:
            callbacks.append(EvaluationSummary(None if dry else run_dir))

        plugins = _as_list(config.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        trainer = super().instantiate_trainer(
            default_root_dir=run_dir, logger=logger, callbacks=callbacks, plugins=plugins, **kwargs
        )
        if self.subcommand == "predict" and trainer.world_size > 1:
            raise ValueError(f"predict runs on one device, not on {trainer.world_size}")
        trainer.fit_loop.epoch_loop = FastEpochLoop(trainer)
        return trainer

    def _predictor(self, run_dir: Path | None) -> Callback:
        """What keeps the answers of ``predict``.

        Raises:
            ValueError: If both photos and a test picture are asked for.
        """
        asked = self.config.predict
        if asked.photos is None:
            return PredictionWriter(run_dir, asked.index)
        if asked.index is not None:
            raise ValueError("--index is the number of a test picture: leave --photos out, or it")
        self.photos = PhotoDataset(asked.photos)
        self.photo_report = PhotoReport(self.photos.paths, run_dir)
        return self.photo_report

    def _make_run_dir(self) -> Path:
        """The folder to write into: that of the checkpoint's run, or for a new fit, a new one."""
        if (
            self.origin
            and self.origin.run_dir
            and (self.origin.resumes or self.subcommand != "fit")
        ):
            return self.origin.run_dir
        root = Path(self._get(self.config, "trainer").default_root_dir)
        if not _is_rank_zero():
            return root  # writes nothing; Lightning tells it where rank 0 keeps its checkpoints
        self.new_run_dir = runs.create_run_dir(root)
        return self.new_run_dir

    def _steps(self) -> tuple[int | None, int | None]:
        """Where the TensorBoard log writes and where it starts, see :class:`FixedStepTensorBoardLogger`."""
        done = int(self.origin.checkpoint.get("global_step", 0)) if self.origin else 0
        if self.subcommand == "fit":
            return None, done if self._resumes() else 0
        # The curves of a fit are at the last step of an epoch, which Lightning counts from 0.
        return max(done - 1, 0), None

    def _resumes(self) -> bool:
        """Whether this is a fit that goes on with an earlier one."""
        return self.config.subcommand == "fit" and bool(self.origin and self.origin.resumes)

    # ---- running -------------------------------------------------------------------------------

    def before_fit(self) -> None:
        """Keeps Python's garbage collector from going through all modules every few epochs."""
        gc.freeze()

    def fit(self, **kwargs: Any) -> None:
        """Runs ``Trainer.fit``; where it is stopped from outside, says how to go on."""
        try:
            self.trainer.fit(**kwargs)
        except BaseException as error:
            last = self._last_checkpoint()
            stopped = signal_exit_code(error) or is_dead_rank_error(error)
            if stopped and last and self.trainer.is_global_zero:
                root = self._get(self.config, "trainer").default_root_dir
                option = "" if root == ROOT else f" --trainer.default_root_dir {root}"
                print_line(
                    f"stopped after step {self.trainer.global_step:,}; to go on from step "
                    f"{last.step:,}: python -m fmnist_lightning fit --ckpt_path last{option}"
                    + self._trust()
                )
            raise

    def _trust(self) -> str:
        """The option that a command needs where the classifier is of classes from elsewhere."""
        specs = [self.model.hparams[key] for key in SPEC_KEYS if self.model.hparams[key]]
        paths = {spec["class_path"] for spec in specs}
        strangers = sorted(path for path in paths if not is_allowed(ALLOWED_PACKAGES, path))
        return " ".join([" --trust", *strangers]) if strangers else ""

    def _last_checkpoint(self) -> LastCheckpoint | None:
        """What keeps the checkpoint to resume from, where there is one."""
        found = [c for c in self.trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)]
        return found[0] if found else None

    def after_fit(self) -> None:
        """Reads the checkpoints once more, and says where the results are and what to do next."""
        if not self.trainer.is_global_zero or self._get(self.config, "trainer").fast_dev_run:
            return
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint | LastCheckpoint) and callback.best_model_path:
                read_checkpoint(callback.best_model_path)
        for best in self.trainer.checkpoint_callbacks:
            if isinstance(best, BestCheckpoint) and best.best_model_score is not None:
                path = os.path.relpath(best.best_model_path)
                print_line(
                    f"best checkpoint: {runs.BEST} -> {path} (val loss {best.best_model_score:.4f})"
                )
                command = f"python -m fmnist_lightning test --ckpt_path {runs.BEST}{self._trust()}"
                print_line(f"test it:         {command}")
        if any(isinstance(logger, TensorBoardLogger) for logger in self.trainer.loggers):
            root = self._get(self.config, "trainer").default_root_dir
            print_line(f"dashboard:       tensorboard --logdir {root}")

    # The weights of --ckpt_path are in the model already, and these three need nothing else of it.

    def validate(self, **kwargs: Any) -> None:
        """Runs ``Trainer.validate``; :class:`EvaluationSummary` prints the figures."""
        self.trainer.validate(**kwargs | {"ckpt_path": None}, verbose=False)

    def test(self, **kwargs: Any) -> None:
        """Runs ``Trainer.test``; :class:`EvaluationSummary` prints the figures."""
        self.trainer.test(**kwargs | {"ckpt_path": None}, verbose=False)

    def predict(self, **kwargs: Any) -> None:
        """Runs ``Trainer.predict``; what :meth:`_predictor` gave keeps the answers."""
        if self.photos is not None:
            kwargs |= {"datamodule": None, "dataloaders": photo_loader(self.photos)}
        self.trainer.predict(**kwargs | {"ckpt_path": None}, return_predictions=False)


def _is_rank_zero() -> bool:
    """Whether this process is the first of its run; known before there is a trainer."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _saves(trainer: Any) -> bool:
    """Whether a fit with this trainer config keeps checkpoints."""
    return trainer.enable_checkpointing is not False and not trainer.fast_dev_run


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
