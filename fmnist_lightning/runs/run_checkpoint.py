"""The checkpoints of a run: which are kept, and ``best.ckpt`` in the current folder."""

import contextlib
import inspect
import os
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging, Timer
from typing_extensions import override

from fmnist_lightning.internals.console import print_line
from fmnist_lightning.internals.files import atomic_write
from fmnist_lightning.internals.non_finite import NonFiniteError
from fmnist_lightning.internals.signals import is_dead_rank_error, signal_exit_code
from fmnist_lightning.internals.specs import class_path
from fmnist_lightning.runs import runs
from fmnist_lightning.runs.checkpoint import read_checkpoint

BEST = Path("best.ckpt")  # in the current folder: a link to the best checkpoint of the latest fit


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, of the lowest validation loss, and ``last.ckpt``, of the latest epoch.

    ``last.ckpt`` exists before the first step, so that a run can be resumed from any moment.
    (``save_last`` of the base class saves only where the loss improved.) It must be the last
    callback, so that ``last.ckpt`` has the state of all others at the end of its epoch.
    """

    def __init__(self, dirpath: Path) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="val/loss",
            mode="min",
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # but at the end of each validation
        )
        self.last_path = str(dirpath / runs.LAST)
        # How evaluation builds the data module; by default by its saved hyperparameters.
        self.data_spec: dict[str, Any] | None = None
        # Of the run that is resumed; its config is saved once it is known to fit the checkpoint.
        self.config: str | None = None
        self.first_step = 0
        self.frozen: list[str] | None = None  # see `freezable_parts`

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        # Before a checkpoint is loaded, which would round 64 bits to 32.
        trainer.precision_plugin.convert_module(pl_module)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.frozen is not None:  # not earlier, when it would decide what the optimizer gets
            for name, part, flag in freezable_parts(pl_module):
                setattr(part, flag, name not in self.frozen)
        if trainer.is_global_zero:
            if self.config:
                with atomic_write(Path(trainer.default_root_dir, runs.CONFIG)) as stream:
                    stream.write(self.config.encode())
            for leftover in Path(self.last_path).parent.glob(".*.ckpt.*"):  # of a killed process
                leftover.unlink(missing_ok=True)
            if self.best_model_path:  # of a resumed run
                link_best(Path(self.best_model_path))
        if not trainer.strategy.broadcast(Path(self.last_path).exists()):
            trainer.save_checkpoint(self.last_path, weights_only=False)
            if trainer.is_global_zero:
                read_checkpoint(self.last_path)  # what can't be read is refused before training

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        score = self.best_model_score
        super().on_validation_end(trainer, pl_module)
        if trainer.is_global_zero and self.best_model_score is not score:
            link_best(Path(self.best_model_path))

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:  # the curves of an epoch are on the disk before it is saved
            logger.save()
        trainer.save_checkpoint(self.last_path, weights_only=False)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path:
            print_line(f"Without a validation, {BEST} is not of this run; use {self.last_path}")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            is_swa = isinstance(callback, StochasticWeightAveraging)
            if is_swa and trainer.current_epoch > callback.swa_end:
                # It has given the module the averaged weights, which no checkpoint has yet.
                path = Path(self.last_path).with_name("averaged.ckpt")
                trainer.save_checkpoint(path, weights_only=False)
                print_line(f"averaged weights: {path} (not validated)")

    @override
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = Path(self.last_path).parents[1].name  # by which a copy finds it
        checkpoint["data"] = self._data_spec(trainer)
        parts = freezable_parts(pl_module)
        checkpoint["frozen"] = [name for name, part, flag in parts if not getattr(part, flag)]
        checkpoint["loggers"] = {type(each).__name__: each.version for each in trainer.loggers}
        # A `Timer` decides anew in a resumed run, whose time may be longer.
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]
        is_expired = any((timer.time_remaining() or 0) < 0 for timer in timers)
        checkpoint["should_stop"] = trainer.should_stop and not is_expired

    @override
    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Restores what Lightning forgets, and refuses another data module."""
        self.first_step = checkpoint["global_step"]
        self.frozen = checkpoint.get("frozen") if trainer.state.fn == "fit" else None
        last = Path(self.last_path)
        if last.exists() and last.samefile(trainer.ckpt_path):  # else it is of another run
            trainer.should_stop = checkpoint.get("should_stop", False)
        saved, current = checkpoint.get("data"), self._data_spec(trainer)
        if saved and current and saved["class_path"] != current["class_path"]:
            raise ValueError(
                f"the run was trained on {saved['class_path']}, not on {current['class_path']}; "
                "resume it with the same data module"
            )

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best checkpoint, which Lightning forgets if the folder was moved."""
        best, score = Path(str(self.dirpath), BEST.name), state_dict["best_model_score"]
        if score is not None and best.is_file():
            self.best_model_path = self.kth_best_model_path = str(best)
            self.best_model_score = self.kth_value = score
            self.best_k_models = {str(best): score}

    @override
    def on_exception(self, trainer: Trainer, pl_module: object, exception: BaseException) -> None:
        """Says how to resume a run that has trained; keeps the traceback of an error."""
        step = trainer.global_step
        is_fit = trainer.is_global_zero and trainer.state.fn == "fit"  # others know no run folder
        has_trained = is_fit and step > self.first_step
        if not has_trained or isinstance(exception, NonFiniteError):  # whose message says all
            return
        is_signal = isinstance(exception, KeyboardInterrupt) or signal_exit_code()
        if is_signal or is_dead_rank_error(exception):
            how = f'trainer.fit(..., ckpt_path="{self.last_path}")'
            if Path(trainer.default_root_dir, runs.CONFIG).is_file():  # on the command line
                how = f"python -m fmnist_lightning fit --ckpt_path {self.last_path}"
            last_step = read_checkpoint(self.last_path)["global_step"]
            print_line(f"Interrupted at step {step:,}. Resume from step {last_step:,} with: {how}")
            return
        path = Path(trainer.default_root_dir, "traceback.txt")
        line = f"Stopped at step {step:,} by an error"
        with contextlib.suppress(OSError):  # maybe the error itself is a full disk
            path.write_text("".join(traceback.format_exception(exception)), encoding="utf-8")
            line += f", whose traceback is in {path}"
        print_line(line)

    def _data_spec(self, trainer: Any) -> dict[str, Any] | None:
        data = trainer.datamodule
        if self.data_spec or data is None:
            return self.data_spec
        if not data.hparams and inspect.signature(type(data)).parameters:
            return None  # its arguments are not known
        return {"class_path": class_path(type(data)), "init_args": dict(data.hparams)}


def freezable_parts(module: LightningModule) -> Iterator[tuple[str, Any, str]]:
    """Weights and batch normalization, with the attribute by which callbacks freeze them."""
    for name, part in (*module.named_parameters(), *module.named_modules()):
        for flag in ("requires_grad", "track_running_stats"):
            if hasattr(part, flag):
                yield name, part, flag


def check_best(root: Path) -> None:
    """Raises ValueError if ``best.ckpt`` in the current folder is not that of a fit.

    It is a link into a run folder, or, on a system without links, a copy from a run in ``root``.
    """
    is_ours = False
    if BEST.is_symlink():
        is_ours = Path(os.readlink(BEST)).parts[-2:] == (runs.CHECKPOINTS, BEST.name)
    elif BEST.is_file():
        with contextlib.suppress(ValueError):
            is_ours = (root / str(read_checkpoint(BEST).get("run"))).is_dir()
    if not is_ours and os.path.lexists(BEST):
        raise ValueError(
            f"{BEST.absolute()} is not from a fit in this folder, and fit does not replace it; "
            "move it away or rename it first"
        )


def link_best(checkpoint: Path) -> None:
    """Makes ``best.ckpt`` in the current folder a link to ``checkpoint``, or a copy of it."""
    temporary = BEST.with_name(f".{BEST.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        try:
            temporary.symlink_to(os.path.relpath(checkpoint))
        except (OSError, ValueError):  # ValueError: on another drive of Windows
            shutil.copyfile(checkpoint, temporary)
        temporary.replace(BEST)
    except OSError as error:
        print_line(f"cannot write {BEST} in the current folder ({error}); use {checkpoint}")
