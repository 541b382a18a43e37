"""What TensorBoard shows of a run."""

from fmnist_lightning.tensorboard.callback import FixedStepTensorBoardLogger, TensorBoardSetup
from fmnist_lightning.tensorboard.evaluation import TensorBoardEvaluation

__all__ = ["FixedStepTensorBoardLogger", "TensorBoardEvaluation", "TensorBoardSetup"]
