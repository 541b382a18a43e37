"""Callbacks of a fit: the seed of each epoch, and the printed lines."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from fmnist_lightning.data.datamodule import InMemoryDataModule
from fmnist_lightning.data.dataset import global_seed
from fmnist_lightning.internals.console import print_line


class SeedEachEpoch(Callback):
    """Seeds augmentation and dropout by run seed, epoch and rank alone.

    A resumed run then draws the same numbers as one that was never stopped.
    """

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Not at the start of the epoch: after it, Lightning makes a DataLoader iterator in most
        # epochs, which draws a number. No two of seed, epoch and rank (up to 4,096) give the same.
        if batch_idx == 0 and (seed := global_seed()) is not None:
            torch.manual_seed((seed << 32) + (trainer.current_epoch << 12) + trainer.global_rank)


class EpochSummary(Callback):
    """Prints network and data, loss and accuracy of each epoch, and why a run ends early."""

    def __init__(self) -> None:
        self.best_loss = float("inf")
        self.is_validated = False  # this epoch; not every epoch has to be

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        num = sum(weight.numel() for weight in pl_module.network.parameters())
        print_line(f"{type(pl_module.network).__name__}, {num:,} parameters")
        if step := trainer.global_step:  # of an earlier fit
            print_line(f"This trainer has done {step:,} steps; a new run needs a new trainer")
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, InMemoryDataModule):
            num, classes = len(data.train_dataset), pl_module.classes
            names = ", ".join(classes[:10]) + ", ..." * (len(classes) > 10)
            print_line(
                f"{num:,} training and {len(data.val_dataset):,} validation images, "
                f"{len(classes)} classes: {names}"
            )
            if num < 5 * data.batch_size:
                print_line(
                    "An epoch is fewer than 5 steps: a --data.batch_size below "
                    f"{data.batch_size} may train better"
                )

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.is_validated = not trainer.sanity_checking

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        # Lightning has validated before this hook.
        train = pl_module.compute_metrics("train")
        total = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        line = f"epoch {trainer.current_epoch + 1:>2}{total}"
        if train:  # a step of one's own may keep no outputs
            line += f"  train loss {train['loss']:.4f} acc {100 * train['acc']:5.2f} %"
        if self.is_validated and (val := pl_module.compute_metrics("val")):
            loss = val["loss"].item()
            line += f"  val loss {loss:.4f} acc {100 * val['acc']:5.2f} %"
            if loss < self.best_loss:
                is_first = self.best_loss == float("inf")
                line += "  improved" if is_first else f"  improved from {self.best_loss:.4f}"
                self.best_loss = loss
        self.is_validated = False
        print_line(line)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.early_stopping_callbacks:
            if callback.stopping_reason_message:
                print_line(f"Stopped early: {callback.stopping_reason_message}")

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self.best_loss}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_loss = state_dict["best_loss"]
