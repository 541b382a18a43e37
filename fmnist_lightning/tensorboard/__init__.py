"""What TensorBoard shows of a run in addition to the curves that the classifier logs."""

from fmnist_lightning.tensorboard.evaluation import EvaluationFigures
from fmnist_lightning.tensorboard.logger import RunTensorBoardLogger
from fmnist_lightning.tensorboard.setup import TensorBoardSetup

__all__ = ["EvaluationFigures", "RunTensorBoardLogger", "TensorBoardSetup"]
