"""The command line: ``fit``, ``validate``, ``test``, ``predict`` and ``export``."""

import contextlib
import os
import pydoc
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from fmnist_lightning import commands
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.signals import is_dead_rank_error, signal_exit_code
from fmnist_lightning.internals.specs import is_allowed
from fmnist_lightning.trainer import as_list, create_trainer, is_rank_zero
from fmnist_lightning.training import resume, runs
from fmnist_lightning.training.callbacks import PredictionWriter
from fmnist_lightning.training.checkpoint import (
    SPEC_KEYS,
    RunCheckpoint,
    build_classifier,
    load_weights,
    read_checkpoint,
)
from fmnist_lightning.training.module import FashionClassifier


class SaveRunConfig(SaveConfigCallback):
    """Saves the config of a ``fit`` into its run folder."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes ``config.yaml``, unless the run is resumed and has one."""
        path = Path(trainer.default_root_dir) / "config.yaml"
        if not path.exists():
            config = self.config.clone()
            config.pop("ckpt_path")  # or it would replace that of a later command
            self.parser.save(config, path, skip_none=False)


class FashionCLI(LightningCLI):
    """``LightningCLI`` with this project's defaults, run folders and rules for checkpoints.

    Args:
        args: The command line, without the name of the program.
    """

    def __init__(self, args: list[str]) -> None:
        self.checkpoint: dict[str, Any] = {}  # the content of --ckpt_path
        self.run_dir: Path | None = None  # the run of that checkpoint
        self.resumes = False  # whether that run itself continues
        self.new_run_dir: Path | None = None
        self.num_skipped = 0  # photos that could not be read
        kwargs = {"prog": "fmnist_lightning", "formatter_class": commands.HelpFormatter}
        try:
            super().__init__(
                FashionClassifier,
                LightningDataModule,
                trainer_defaults=commands.TRAINER_DEFAULTS,
                parser_kwargs=kwargs
                | {"description": commands.DESCRIPTION, "exit_on_error": False},
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=args,
            )
        finally:
            if self.new_run_dir is not None:
                with contextlib.suppress(OSError):  # removes them only if the run left nothing
                    self.new_run_dir.rmdir()
                    self.new_run_dir.parent.rmdir()

    # ---- options -------------------------------------------------------------------------------

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Adds a parser for each command."""
        self._subcommand_parsers = {}
        subcommands = parser.add_subcommands()
        for name, text in commands.COMMANDS.items():
            command = self.init_parser(
                description=text, formatter_class=commands.HelpFormatter, exit_on_error=False
            )
            commands.add_options(command, name)
            self._subcommand_parsers[name] = command
            subcommands.add_subcommand(name, command, help=text.partition(". ")[0].strip(".") + ".")

    # ---- parsing -------------------------------------------------------------------------------

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line, on top of the settings that a checkpoint was trained with.

        Raises:
            ValueError: If the checkpoint is missing or can't be used, or options conflict with it.
        """
        self.config = parser.parse_args(args)
        command = self.config.subcommand
        config = self.config[command]
        if config.ckpt_path is None:
            if command != "fit":
                raise ValueError(
                    f"{command} needs a trained network: give --ckpt_path best.ckpt, or another "
                    "checkpoint that fit has saved"
                )
            return
        root = Path((config.trainer or {}).get("default_root_dir", runs.ROOT))
        path = config.ckpt_path
        if path == "last":
            self.run_dir = runs.latest_run_dir(root)
            self.resumes = command == "fit"
            path = str(self.run_dir / runs.CHECKPOINTS / "last.ckpt")
        self.checkpoint = read_checkpoint(path)
        self.run_dir = self.run_dir or runs.find_run_dir(Path(path), self.checkpoint, root)

        split = resume.saved_split(self.checkpoint)
        data = {"class_path": commands.DATA_MODULE, "init_args": split}
        self._subcommand_parsers[command].set_defaults({"data": data})
        saved: dict[str, Any] = {}
        if command == "fit" and self.run_dir is not None:
            config_path = self.run_dir / "config.yaml"
            saved = resume.read_run_config(config_path)
            at = args.index(command) + 1
            args = [*args[:at], "--config", str(config_path), *args[at:]]
        self.config = parser.parse_args(args)
        self.config[command]["ckpt_path"] = path

        settings = self.config[command].as_dict()
        resume.check_compatible(settings, self.checkpoint, path, complete=command == "fit")
        if self.resumes:
            text = self._subcommand_parsers[command].dump(self.config[command], skip_none=False)
            settings = yaml.safe_load(text)  # as the saved config
            resume.check_length(settings, saved, path)
            if is_rank_zero():
                step = self.checkpoint["global_step"]
                changes = resume.describe_changes(settings, saved)
                print_line(f"Resuming {self.run_dir} from step {step:,}{changes}")

    def _parse_ckpt_path(self) -> None:
        """Does nothing: ``parse_arguments`` has done it."""

    def before_instantiate_classes(self) -> None:
        """Checks settings that would fail late.

        Raises:
            ValueError: If a setting is null that must not be, or there is no GPU where one is asked
                for.
        """
        config = self.config[self.config.subcommand].as_dict()
        commands.reject_null(
            "data", pydoc.locate(config["data"]["class_path"]), config["data"]["init_args"]
        )
        if self.subcommand == "fit":
            commands.reject_null("model", FashionClassifier, config["model"])
        if (config["trainer"] or {}).get("accelerator") == "gpu" and not (
            torch.cuda.is_available() or torch.backends.mps.is_available()
        ):
            raise ValueError(
                "--trainer.accelerator gpu: PyTorch finds no GPU on this machine; leave the option "
                "out to use what there is, or install a PyTorch build that fits your GPU"
            )

    # ---- building ------------------------------------------------------------------------------

    def instantiate_classes(self) -> None:
        """Builds data module, model and trainer."""
        self.config_init = self.parser.instantiate_classes(self.config)
        self.options = self.config_init[self.subcommand]
        self.datamodule = self.options.data
        if self.subcommand == "fit":
            self.model = self.options.model
            if self.checkpoint:  # to see early that they fit
                load_weights(self.model, self.checkpoint, self.options.ckpt_path)
        else:
            path, trusted = self.options.ckpt_path, self.options.trust
            self.model = build_classifier(self.checkpoint, path, trusted)
        if self.subcommand != "export":
            self.trainer = self._create_trainer()

    def _create_trainer(self) -> Trainer:
        kwargs = dict(self.options.trainer)
        dry = bool(kwargs["fast_dev_run"])
        run_dir = self.run_dir if self.resumes or self.subcommand != "fit" else None
        if run_dir is None and not dry:
            root = Path(kwargs["default_root_dir"])
            run_dir = self.new_run_dir = runs.create_run_dir(root) if is_rank_zero() else root
        callbacks = as_list(kwargs.pop("callbacks"))
        if self.subcommand == "fit" and not dry:
            callbacks.append(
                SaveRunConfig(
                    self._subcommand_parsers["fit"], self.config["fit"], save_to_log_dir=False
                )
            )
        if self.subcommand != "fit":
            kwargs["enable_checkpointing"] = False
        if self.subcommand == "predict":
            callbacks.append(self._prediction_writer(None if dry else run_dir))
        if kwargs["logger"] in (None, True) and not dry:
            kwargs["logger"] = self.subcommand != "predict" and self._logger(run_dir)
        trainer = create_trainer(run_dir=run_dir, callbacks=callbacks, **kwargs)
        if self.subcommand == "predict" and trainer.world_size > 1:
            raise ValueError(f"predict runs on one device, not on {trainer.world_size}")
        return trainer

    def _logger(self, run_dir: Path | None) -> Any:
        """A TensorBoard log that continues, or adds to, the log of the checkpoint's run."""
        from fmnist_lightning.tensorboard import FixedStepTensorBoardLogger

        assert run_dir is not None
        step = int(self.checkpoint.get("global_step", 0))
        if self.subcommand == "fit":
            return FixedStepTensorBoardLogger(run_dir, purge_step=step if self.resumes else 0)
        # The curves of an epoch are at its last step, which Lightning counts from 0.
        return FixedStepTensorBoardLogger(run_dir, step=max(step - 1, 0))

    def _prediction_writer(self, run_dir: Path | None) -> Any:
        if self.options.photos is None:
            return PredictionWriter(run_dir, self.options.index)
        if self.options.index is not None:
            raise ValueError("--photos and --index are mutually exclusive")
        from fmnist_lightning.photos.images import PhotoDataset, photo_loader
        from fmnist_lightning.photos.report import PhotoReport

        photos = PhotoDataset(self.options.photos)
        self.photo_loader = photo_loader(photos)
        self.photo_report = PhotoReport(photos.paths, run_dir, self.model.classes)
        return self.photo_report

    # ---- running -------------------------------------------------------------------------------

    def _run_subcommand(self, subcommand: str) -> None:
        getattr(self, subcommand)()

    def fit(self) -> None:
        """Trains; a run that is interrupted says how to resume it."""
        found = [c for c in self.trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint)]
        checkpoint = found[0] if found else None
        root = self.options.trainer.default_root_dir
        try:
            self.trainer.fit(
                self.model, datamodule=self.datamodule, ckpt_path=self.options.ckpt_path
            )
        except BaseException as error:
            interrupted = signal_exit_code(error) or is_dead_rank_error(error)
            if interrupted and checkpoint and self.trainer.is_global_zero:
                option = "" if root == runs.ROOT else f" --trainer.default_root_dir {root}"
                print_line(
                    f"Interrupted at step {self.trainer.global_step:,}. Resume from step "
                    f"{checkpoint.last_step:,} with: "
                    f"python -m fmnist_lightning fit --ckpt_path last{option}"
                )
            raise
        if not self.trainer.is_global_zero or self.options.trainer.fast_dev_run:
            return
        if checkpoint:
            read_checkpoint(checkpoint.last_path)  # to see that it can be
        if checkpoint and checkpoint.best_model_score is not None:
            read_checkpoint(checkpoint.best_model_path)
            path, loss = os.path.relpath(checkpoint.best_model_path), checkpoint.best_model_score
            print_line(f"best checkpoint: {runs.BEST} -> {path} (val loss {loss:.4f})")
            print_line(
                f"Next:            python -m fmnist_lightning test --ckpt_path {runs.BEST}"
                + self._more_options()
            )
        if any(hasattr(logger, "log_dir") for logger in self.trainer.loggers):
            print_line(f"TensorBoard:     tensorboard --logdir {root}")

    def _more_options(self) -> str:
        """The options that ``test`` needs after this ``fit``."""
        options = ""
        if self.config["fit"].data.class_path != commands.DATA_MODULE:
            options += f" --config {os.path.relpath(self.trainer.default_root_dir)}/config.yaml"
        specs = [self.model.hparams[key] for key in SPEC_KEYS]
        untrusted = sorted(
            spec["class_path"] for spec in specs if spec and not is_allowed(spec["class_path"])
        )
        return options + (" --trust " + " ".join(untrusted) if untrusted else "")

    def validate(self) -> None:
        """Runs ``Trainer.validate``; a callback prints the metrics."""
        self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)

    def test(self) -> None:
        """Runs ``Trainer.test``; a callback prints the metrics."""
        self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)

    def predict(self) -> None:
        """Runs ``Trainer.predict``; a callback writes the predictions."""
        if self.options.photos is None:
            source: dict[str, Any] = {"datamodule": self.datamodule}
        else:
            source = {"dataloaders": self.photo_loader}
        self.trainer.predict(self.model, **source, return_predictions=False)
        if self.options.photos is not None:
            self.num_skipped = self.photo_report.num_skipped

    def export(self) -> None:
        """Writes the ONNX file and compares it on the test images."""
        from fmnist_lightning.export.onnx import export_and_compare

        self.datamodule.prepare_data()
        self.datamodule.setup("test")
        images = torch.cat([batch[0] for batch in self.datamodule.test_dataloader()])
        export_and_compare(self.model, images, Path(self.options.output))
