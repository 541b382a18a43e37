"""The one-cycle learning rate schedule."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BaseFinetuning, GradientAccumulationScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from typing_extensions import override


class RunOneCycleLR(OneCycleLR):
    """One cycle over a run, which can't be resumed with another number of steps."""

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["total_steps"] != self.total_steps:
            raise ValueError(
                f"the one_cycle schedule of the run is for {state_dict['total_steps']:,} steps, "
                f"not {self.total_steps:,}; keep max_epochs and batch_size, or start a new fit"
            )
        super().load_state_dict(state_dict)


def one_cycle(optimizer: Optimizer, trainer: Trainer, warmup_fraction: float) -> dict[str, Any]:
    """The schedule of a whole run, in the form that ``configure_optimizers`` returns.

    It rises to the optimizer's learning rates in ``warmup_fraction`` of the run, 0 to below 1.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        # They change the parameters, or the number of steps, during the run.
        if isinstance(callback, BaseFinetuning | GradientAccumulationScheduler):
            raise ValueError(
                f"the one_cycle schedule does not support {type(callback).__name__}: set "
                "--model.lr_schedule constant"
            )
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < float("inf"):  # -1 is of data without a length
        raise ValueError(
            "the one_cycle schedule needs the number of steps of the run: set "
            "--trainer.max_epochs or --trainer.max_steps, or --model.lr_schedule constant"
        )
    scheduler = RunOneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=int(steps),
        # With a single warm-up step, PyTorch would divide by zero.
        pct_start=0.0 if warmup_fraction * steps == 1 else float(warmup_fraction),
        cycle_momentum=False,
    )
    return {"scheduler": scheduler, "interval": "step"}  # Lightning's default is the epoch
