"""The command line: ``fit``, ``validate``, ``test``, ``predict``, ``demo`` and ``export``."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from fmnist_lightning import __version__, commands
from fmnist_lightning.config_files import resolve_configs
from fmnist_lightning.data.datamodule import InMemoryDataModule
from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.threads import set_num_threads
from fmnist_lightning.trainer import as_list, create_trainer, is_rank_zero
from fmnist_lightning.training import next_steps, resume, runs
from fmnist_lightning.training.checkpoint import (
    SPEC_KEYS,
    RunCheckpoint,
    build_classifier,
    load_weights,
)
from fmnist_lightning.training.module import FashionClassifier
from fmnist_lightning.training.predictions import PredictionWriter


class FashionCLI(LightningCLI):
    """``LightningCLI`` with this project's defaults, run folders and rules for checkpoints."""

    def __init__(self, args: list[str]) -> None:
        self.source: resume.CheckpointSource | None = None  # of --ckpt_path
        self.resumes = False  # whether the run of that checkpoint continues
        self.new_run_dir: Path | None = None
        self.photo_report: Any = None
        try:
            super().__init__(
                FashionClassifier,
                LightningDataModule,
                parser_kwargs={
                    **{"prog": "fmnist_lightning", "description": commands.DESCRIPTION},
                    **{"formatter_class": commands.HelpFormatter, "exit_on_error": False},
                    "version": __version__,
                },
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=args,
            )
        finally:
            if self.new_run_dir is not None:
                for folder in (self.new_run_dir, self.new_run_dir.parent):
                    with contextlib.suppress(OSError):  # it has content, or is gone
                        folder.rmdir()

    # ---- parsing -------------------------------------------------------------------------------

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        self._subcommand_parsers = commands.add_commands(parser, self.init_parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line, on top of the settings that a checkpoint was trained with."""
        args = resolve_configs(args)
        try:
            self.config = self._parse(parser, args)
        except argparse.ArgumentError as error:
            raise commands.with_suggestion(error, args, self._subcommand_parsers) from error
        command = self.config.subcommand
        config, command_parser = self.config[command], self._subcommand_parsers[command]
        if config.ckpt_path is None:
            if command != "fit":
                raise ValueError(
                    f"{command} needs a trained network: give --ckpt_path best.ckpt, or another "
                    "checkpoint that fit has saved"
                )
            return
        root = self._root(config.trainer)
        source = self.source = resume.resolve_checkpoint(config.ckpt_path, root)
        self.resumes = command == "fit" and source.is_last
        saved: dict[str, Any] = {}
        if command == "fit" and source.run_dir:
            config_path = source.run_dir / "config.yaml"
            saved = resume.read_run_config(config_path)
            at = args.index(command) + 1
            args = [*args[:at], "--config", str(config_path), *args[at:]]
        command_parser.set_defaults({"data": source.data})
        self.config = self._parse(parser, args)

        config = self.config[command]
        config["ckpt_path"] = source.path
        resume.check_compatible(config.as_dict(), source, complete=command == "fit")
        if saved and source.run_dir:
            settings = yaml.safe_load(command_parser.dump(config, skip_none=False))
            changes = resume.changed_settings(settings, saved)
            if is_rank_zero():
                verb = "Resuming" if self.resumes else "Continuing"
                folder = os.path.relpath(source.run_dir)
                print_line(f"{verb} {folder} from step {source.step:,}{changes}")

    def _parse(self, parser: LightningArgumentParser, args: list[str]) -> Any:
        """Parses twice where a default class was replaced.

        The parser would give the new class the arguments of the default one that it has too.
        """
        plain = [each for each in args if "--print_config" not in each]  # it prints, and exits
        config = parser.parse_args(plain)
        command_parser = self._subcommand_parsers[config.subcommand]
        defaults = command_parser.get_defaults()
        replaced = {}
        for key in ("data", *(f"model.{name}" for name in SPEC_KEYS)):
            default = getattr(defaults.get(key), "class_path", None)
            found = getattr(config[config.subcommand].get(key), "class_path", default)
            if found != default:
                replaced[key] = {"class_path": found}
        if not replaced and plain == args:
            return config
        command_parser.set_defaults(replaced)
        return parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Does nothing: ``parse_arguments`` has done it."""

    def before_instantiate_classes(self) -> None:
        """Checks settings that would fail late, and chooses the number of threads."""
        config = self.config[self.subcommand]
        commands.check_settings(config.as_dict())
        config["num_threads"] = set_num_threads(config["num_threads"])  # the run's config has it

    # ---- building ------------------------------------------------------------------------------

    def instantiate_classes(self) -> None:
        """Builds data module, model and trainer."""
        self.options = self.parser.instantiate_classes(self.config)[self.subcommand]
        self.datamodule = self.options.data
        if self.subcommand == "fit":
            self.model = self.options.model
            if self.source:  # to see early that they fit
                load_weights(self.model, self.source.content, self.source.path)
        elif self.source:
            self.model = build_classifier(self.source.content, self.source.path, self.options.trust)
            if is_rank_zero():
                print_line(self.source.describe(self.model))
        if self.subcommand not in commands.WITHOUT_TRAINER:
            self.trainer = self._create_trainer()

    @staticmethod
    def _root(trainer: Any) -> Path:
        """The folder of all runs, from the options of the trainer."""
        return Path((trainer or {}).get("default_root_dir") or runs.ROOT).expanduser()

    def _create_trainer(self) -> Trainer:
        root = self._root(self.options.trainer)
        kwargs = dict(self.options.trainer, default_root_dir=root)
        kwargs["num_threads"] = self.options.num_threads
        fits, dry = self.subcommand == "fit", bool(kwargs["fast_dev_run"])
        run_dir = self.source.run_dir if self.source and (self.resumes or not fits) else None
        if run_dir is None and not dry:
            run_dir = root  # of other ranks, which write nothing
            if is_rank_zero():
                run_dir = self.new_run_dir = runs.create_run_dir(root, self.options.get("name"))
        callbacks = as_list(kwargs.pop("callbacks"))
        if fits and not dry:
            config, parser = self.config["fit"], self._subcommand_parsers["fit"]
            callbacks.append(resume.SaveRunConfig(parser, config, save_to_log_dir=False))
        if not fits:
            kwargs["enable_checkpointing"] = False
        if self.subcommand == "predict":
            callbacks.append(self._prediction_writer(None if dry else run_dir))
            kwargs["logger"] = kwargs["logger"] or False
        elif kwargs["logger"] in (None, True) and not fits and not dry and self.source:
            from fmnist_lightning.tensorboard import FixedStepTensorBoardLogger

            # The curves of an epoch are at its last step, which Lightning counts from 0.
            step = max(self.source.step - 1, 0)
            kwargs["logger"] = FixedStepTensorBoardLogger(run_dir or Path(), step=step)
        trainer = create_trainer(run_dir=run_dir, callbacks=callbacks, **kwargs)
        if self.subcommand == "predict" and trainer.world_size > 1:
            raise ValueError(f"predict runs on one device, not on {trainer.world_size}")
        return trainer

    def _prediction_writer(self, run_dir: Path | None) -> Any:
        if self.options.photos is None:
            return PredictionWriter(run_dir, self.options.index)
        if self.options.index is not None:
            raise ValueError("--photos and --index are mutually exclusive")
        from fmnist_lightning.photos.images import PhotoDataset, photo_loader
        from fmnist_lightning.photos.report import PhotoReport

        photos = PhotoDataset(self.options.photos)
        self.photo_loader = photo_loader(photos)
        list_skipped = self.options.list_skipped
        self.photo_report = PhotoReport(photos, run_dir, self.model.classes, list_skipped)
        return self.photo_report

    # ---- running -------------------------------------------------------------------------------

    def _run_subcommand(self, subcommand: str) -> None:
        getattr(self, subcommand)()

    def fit(self) -> None:
        """Trains; says where the results are, or how to resume a run that ends early."""
        trainer, first_step = self.trainer, self.source.step if self.source else 0
        saves = trainer.is_global_zero and isinstance(trainer.checkpoint_callback, RunCheckpoint)
        with (
            next_steps.report_errors(trainer, first_step, self.new_run_dir),
            runs.lock(Path(trainer.default_root_dir), saves),
        ):
            trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=self.options.ckpt_path)
        if self.resumes and saves and trainer.global_step == first_step:
            print_line(f"The run had ended at step {first_step:,}: nothing was trained")
        if saves:
            own_data = not isinstance(self.datamodule, InMemoryDataModule)
            print_line(next_steps.after_fit(trainer, self._root(self.options.trainer), own_data))

    def validate(self) -> None:
        """Evaluates on the validation images; a callback prints the metrics."""
        self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)

    def test(self) -> None:
        """Evaluates on the test images; a callback prints the metrics."""
        self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)

    def predict(self) -> None:
        """Predicts the test images, or photos; a callback writes the predictions."""
        if self.options.photos is None:
            self.trainer.predict(self.model, self.datamodule, return_predictions=False)
        else:
            from fmnist_lightning.photos import PhotoClassifier

            classifier = PhotoClassifier(self.model)
            self.trainer.predict(classifier, self.photo_loader, return_predictions=False)

    def demo(self) -> None:
        """Serves a page in the browser to try the network."""
        from fmnist_lightning.demo.page import serve

        assert self.source is not None
        about = self.source.describe(self.model)
        serve(
            self.model, self.datamodule, about, self.options.server_name, self.options.server_port
        )

    def export(self) -> None:
        """Writes the ONNX file and compares it on the test images."""
        from fmnist_lightning.export.onnx import export_and_compare

        self.datamodule.prepare_data()
        self.datamodule.setup("test")
        images = torch.cat([batch[0] for batch in self.datamodule.test_dataloader()])
        export_and_compare(self.model, images, Path(self.options.output))
