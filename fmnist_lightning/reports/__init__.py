"""What TensorBoard shows of a run in addition to the curves that the classifier logs."""

from fmnist_lightning.reports.evaluation import EvaluationFigures
from fmnist_lightning.reports.logger import RunTensorBoardLogger, prepare_loggers
from fmnist_lightning.reports.setup import TensorBoardSetup

__all__ = ["EvaluationFigures", "RunTensorBoardLogger", "TensorBoardSetup", "prepare_loggers"]
