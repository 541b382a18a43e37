"""The LightningModule: steps, loss, metrics, optimiser."""

import functools
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from fmnist_lightning.dataset import NUM_CLASSES, Batch
from fmnist_lightning.networks import ArticleCNN
from fmnist_lightning.recipes import from_recipe, to_recipe

STAGES = ("train", "val", "test")
MOST_UNSEEN = 100  # batches
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
# In batches of 128, SGD with momentum does as well; in those of 20 to 64, it diverges.
DEFAULT_OPTIMIZER = functools.partial(AdamW, lr=0.01, weight_decay=0.05)


class FashionClassifier(LightningModule):
    """Trains a network to tell the ten classes of Fashion-MNIST apart.

    Everything needed to rebuild it is in the checkpoint as plain types: a recipe in place of the
    network's class and the optimiser's, see ``recipes.py``. It takes such recipes too, so that
    ``load_from_checkpoint`` works; ``load_classifier`` gives better errors.

    Args:
        network: Class of the network, or ``functools.partial(Class, argument=value)``. Any
            ``nn.Module`` will do that takes float pictures, shape (N, 1, 28, 28), with values
            between 0 and 1, and gives logits, shape (N, 10).
        optimizer: The same for the optimiser; its first argument will be the parameters.
        schedule: The learning rate over the run: ``constant``, or ``one_cycle``, which rises to the
            optimiser's learning rate, then falls to nearly 0, a step at a time
            (https://arxiv.org/abs/1708.07120).
        warmup: The part of a ``one_cycle`` run in which the learning rate rises, from 0 to below 1.
        compile: Compiles the network with ``torch.compile`` for training.
        channels_last: Keeps the weights of convolutions in the memory format of that name, in which
            they are faster on most machines.

    Raises:
        ValueError: If ``warmup`` is out of range, or the network or optimiser can't be written down
            in a checkpoint.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module] = ArticleCNN,
        optimizer: OptimizerFactory = DEFAULT_OPTIMIZER,
        schedule: Literal["constant", "one_cycle"] = "one_cycle",
        warmup: float = 0.1,
        compile: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(network, dict):
            network = from_recipe(network)
        if isinstance(optimizer, dict):
            optimizer = from_recipe(optimizer)
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup must be at least 0 and below 1, not {warmup}")
        self.save_hyperparameters(
            {
                "network": to_recipe(network),
                "optimizer": to_recipe(optimizer),
                "schedule": schedule,
                "warmup": warmup,
                "compile": compile,
                "channels_last": channels_last,
            }
        )
        self.network = network()
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.optimizer_factory = optimizer
        self.schedule = schedule
        self.warmup = warmup
        self.compile_network = compile

        # Accuracy is `micro`, every picture counts once; torchmetrics' own default is the mean over
        # the classes.
        self.metrics = nn.ModuleDict()
        for stage in STAGES:
            # By default it looks for NaN, which makes a GPU wait, and leaves it out.
            self.metrics[f"{stage}_loss"] = MeanMetric(nan_strategy="disable")
            self.metrics[f"{stage}_acc"] = MulticlassAccuracy(
                NUM_CLASSES, average="micro", validate_args=False
            )
            if stage != "train":
                self.metrics[f"{stage}_confusion"] = MulticlassConfusionMatrix(
                    NUM_CLASSES, validate_args=False
                )
        # What the metrics have not seen yet: an update for each batch would cost a small network a
        # twentieth of its step. Kept for a whole epoch, they would scatter over 100 MB of memory.
        self.unseen: dict[str, list[Batch]] = {stage: [] for stage in STAGES}

    def metric(self, name: str) -> Metric:
        """One of the metrics, with all batches of its epoch so far.

        Args:
            name: Its stage and kind, such as ``train_loss`` or ``test_confusion``.
        """
        stage = name.partition("_")[0]
        self._count(stage)
        return self._metric(name)

    def _count(self, stage: str) -> None:
        """Shows the metrics what they have not seen yet."""
        if self.unseen[stage]:
            logits, labels = (torch.cat(parts) for parts in zip(*self.unseen[stage], strict=True))
            self.unseen[stage].clear()
            losses = F.cross_entropy(logits.float(), labels, reduction="none")  # (N,)
            # Each picture's own: torchmetrics 1.9 drops weights where NaN is let through.
            self._metric(f"{stage}_loss").update(losses)
            self._metric(f"{stage}_acc").update(logits, labels)
            if stage != "train":
                self._metric(f"{stage}_confusion").update(logits, labels)

    def _metric(self, name: str) -> Metric:
        metric = self.metrics[name]
        assert isinstance(metric, Metric)
        return metric

    def setup(self, stage: str) -> None:
        """Compiles the network where asked, in place, so that the names of its weights stay."""
        if stage == "fit" and self.compile_network:
            self.network.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Scores each class.

        Args:
            images: Pictures as they are in the data set, uint8, shape (N, 28, 28).

        Returns:
            Logits, float, shape (N, 10).
        """
        pixels = images.unsqueeze(1).to(self.dtype) / 255  # (N, 1, 28, 28), 0 to 1
        logits: Tensor = self.network(pixels)
        return logits

    def _start_epoch(self, stage: str) -> None:
        """Forgets what is left of an earlier epoch; Lightning resets only metrics it has logged."""
        self.unseen[stage].clear()
        for name in self.metrics:
            if name.startswith(stage):
                self._metric(name).reset()

    def _shared_step(self, batch: Batch, stage: str) -> Tensor:
        """What all stages do with a batch.

        Returns:
            The logits, shape (N, 10).
        """
        images, labels = batch
        logits: Tensor = self(images)
        # A copy: labels from a worker would each keep a file open.
        self.unseen[stage].append((logits.detach(), labels.clone()))
        if len(self.unseen[stage]) == MOST_UNSEEN:
            self._count(stage)
        return logits

    def _end_epoch(self, stage: str) -> None:
        """Logs the means over the epoch."""
        for kind in ("loss", "acc"):
            self.log(f"{stage}/{kind}", self.metric(f"{stage}_{kind}"))

    def on_train_epoch_start(self) -> None:
        """Begins the training metrics anew."""
        self._start_epoch("train")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss to minimise, shape ()."""
        loss = F.cross_entropy(self._shared_step(batch, "train"), batch[1])
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self.log("train/loss_step", loss)
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def on_train_epoch_end(self) -> None:
        """Logs the means over the epoch, as the weights were while it went on."""
        self._end_epoch("train")

    def on_validation_epoch_start(self) -> None:
        """Begins the validation metrics anew."""
        self._start_epoch("val")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds a batch to the validation metrics."""
        self._shared_step(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Logs the means over the validation pictures."""
        self._end_epoch("val")

    def on_test_epoch_start(self) -> None:
        """Begins the test metrics anew."""
        self._start_epoch("test")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds a batch to the test metrics."""
        self._shared_step(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Logs the means over the test pictures."""
        self._end_epoch("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probabilities of the classes, shape (N, 10)."""
        logits: Tensor = self(batch[0])
        return logits.softmax(dim=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds optimiser and schedule; the schedule moves with every step, not every epoch.

        Raises:
            ValueError: If the run has no end, which ``one_cycle`` needs to know.
        """
        optimizer = self.optimizer_factory(self.parameters())
        if self.schedule == "constant":
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(
                "the one_cycle schedule needs to know the length of the run: "
                "set --trainer.max_epochs or --trainer.max_steps, or --model.schedule constant"
            )
        scheduler = OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=int(steps),
            # A single step of warm-up would be at its peak at once, where PyTorch divides by zero.
            pct_start=0.0 if self.warmup * steps == 1 else float(self.warmup),
            cycle_momentum=False,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
