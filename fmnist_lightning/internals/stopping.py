"""How a run stops: a loss that is no number, Ctrl+C, SIGTERM, a process of it that is gone."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class DivergenceError(RuntimeError):
    """The training went astray; the message says where."""


class TerminateOnNonFinite(Callback):
    """Stops a run whose loss is no finite number, before anything is saved of it.

    Losses stay on their device until a step that logs, a validation or a checkpoint, which look at
    all of them, so that no step waits. On several processes, all of them stop.
    """

    def __init__(self) -> None:
        self.losses: list[Tensor] = []  # since the last look, a step each
        self.rates: list[float] = []  # their learning rates

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Notes the learning rate."""
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keeps the loss, and looks at what was kept in steps that log."""
        self.losses.append(outputs["loss"])
        every: int = trainer.log_every_n_steps or 100  # type: ignore[attr-defined]
        if len(self.losses) >= every:
            self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks before the validation, which may be followed by a checkpoint."""
        self._look(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Looks also at the weights: a last step may have a finite loss and lead nowhere.

        Raises:
            DivergenceError: If a loss or a weight is no finite number.
        """
        self._look(trainer)
        for name, value in checkpoint["state_dict"].items():
            if not value.isfinite().all():
                raise DivergenceError(
                    f"after step {trainer.global_step:,}, the weights {name} are not finite; "
                    + REMEDY
                )

    def _look(self, trainer: Trainer) -> None:
        """Looks at the losses since the last time.

        Raises:
            DivergenceError: If one of them is no finite number, on any process.
        """
        if not self.losses:
            return
        bad = ~torch.stack(self.losses).isfinite()
        num, rates = len(bad), self.rates
        self.losses, self.rates = [], []
        first = torch.where(bad.any(), bad.int().argmax(), num)
        index = int(trainer.strategy.reduce(first, reduce_op="min"))  # of all processes
        if index < num:
            raise DivergenceError(
                f"from step {trainer.global_step - num + index + 1:,} on (epoch "
                f"{trainer.current_epoch + 1}, learning rate {rates[index]:.3g}), the loss is not "
                f"finite; {REMEDY}"
            )


REMEDY = "no later checkpoint was saved. A lower --model.optimizer.lr may help"


class SigtermInterrupt(KeyboardInterrupt):
    """SIGTERM arrived, which is meant as Ctrl+C is."""


@contextlib.contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM an exception, so that files that are being written are tidied away."""

    def terminate(signum: int, frame: object) -> None:
        raise SigtermInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def signal_exit_code(error: BaseException) -> int | None:
    """The exit code of a program that a signal stopped: 130 for Ctrl+C, 143 for SIGTERM.

    Args:
        error: What ended the program. Lightning turns Ctrl+C into a ``SystemExit``.

    Returns:
        The code; None where there was no signal.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SigtermInterrupt):
            return 128 + signal.SIGTERM
        if isinstance(cause, KeyboardInterrupt):
            return 128 + signal.SIGINT
        cause = cause.__context__
    return None


def is_dead_rank_error(error: BaseException) -> bool:
    """Whether this is what a process is told when another one of its run has ended.

    Args:
        error: What ended the program.
    """
    nccl = getattr(torch.distributed, "DistBackendError", ())
    return isinstance(error, nccl) or (isinstance(error, RuntimeError) and "gloo" in str(error))
