"""What TensorBoard shows of a run in addition to the curves that the classifier logs."""

from fmnist_lightning.tensorboard.evaluation import TensorBoardEvaluation
from fmnist_lightning.tensorboard.logger import FixedStepTensorBoardLogger
from fmnist_lightning.tensorboard.setup import TensorBoardSetup

__all__ = ["FixedStepTensorBoardLogger", "TensorBoardEvaluation", "TensorBoardSetup"]
