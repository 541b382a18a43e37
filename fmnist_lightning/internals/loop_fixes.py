"""Lightning's loops with three corrections, which do not change a run that does not need them."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from typing_extensions import override


class CorrectedEpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the steps of an epoch, which ends a run with a validation."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer, trainer.min_steps, trainer.max_steps)

    @override
    def _should_check_val_epoch(self) -> bool:
        """Also in the last epoch: https://github.com/Lightning-AI/pytorch-lightning/issues/4539."""
        is_last = self.trainer.current_epoch + 1 == self.trainer.max_epochs
        return super()._should_check_val_epoch() or (is_last and self.trainer.enable_validation)

    @override
    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        """Also after ``max_steps``: https://github.com/Lightning-AI/pytorch-lightning/issues/9855."""
        is_last = self.global_step == self.max_steps and self._should_check_val_epoch()
        return is_last or super()._should_check_val_fx(data_fetcher)


class CorrectedFitLoop(_FitLoop):
    """Lightning's loop over epochs, which ends none twice. Assign it to ``trainer.fit_loop``."""

    def __init__(self, trainer: Trainer, epoch_loop_class: Any) -> None:
        super().__init__(trainer, trainer.min_epochs, trainer.max_epochs)
        self.epoch_loop = epoch_loop_class(trainer)

    @override
    def _iteration_based_training(self) -> bool:
        """Whether a resumed run is always within an epoch, as Lightning assumes with ``max_steps``.

        It then ends the epoch of a checkpoint that was saved at the end of an epoch a second time:
        https://github.com/Lightning-AI/pytorch-lightning/issues/19617.
        """
        return False
