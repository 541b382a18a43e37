"""The LightningModule: steps, loss, optimiser."""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import BaseFinetuning
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from fmnist_lightning.data.dataset import CLASSES, NUM_CLASSES, Batch
from fmnist_lightning.internals.specs import from_spec, to_spec
from fmnist_lightning.models.cnn import ArticleCNN
from fmnist_lightning.models.pretrained import PretrainedNetwork
from fmnist_lightning.photos.images import Picture, load_views
from fmnist_lightning.training.metrics import ClassificationMetrics

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
# In batches of 128, SGD with momentum does as well; in those of 20 to 64, it diverges.
DEFAULT_OPTIMIZER = functools.partial(AdamW, lr=0.01, weight_decay=0.05)


class Answer(NamedTuple):
    """What a classifier says of a picture.

    Attributes:
        label: The name of the most likely class.
        probability: Its probability, 0 to 1.
        probabilities: That of each class, by name.
    """

    label: str
    probability: float
    probabilities: dict[str, float]

    @classmethod
    def of(cls, row: Sequence[float]) -> "Answer":
        """The answer that ten probabilities, in the order of the classes, come to."""
        probabilities = dict(zip(CLASSES, row, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return cls(label, probabilities[label], probabilities)


class FashionClassifier(LightningModule):
    """Trains a network to tell the ten classes of Fashion-MNIST apart.

    Everything needed to rebuild it is in the checkpoint as plain types, with a spec in place of
    each class, see ``specs.py``. It takes such specs too, so that ``load_from_checkpoint``
    works; ``load_classifier`` gives better errors.

    Args:
        network: Class of the network, or ``functools.partial(Class, argument=value)``. Any
            ``nn.Module`` will do that takes float pictures, shape (N, 1, 28, 28), with values
            between 0 and 1, and gives logits, shape (N, 10).
        optimizer: The same for the optimiser; its first argument will be the parameters.
        augmentation: Changes the pictures at random in training: ``RandomAugmentation``, or any
            ``nn.Module`` from uint8 pictures, shape (N, 28, 28), and labels, shape (N,), to new
            pictures.
        hflip_tta: Where it doesn't train, averages the logits of each picture and its mirror image.
        lr_schedule: The learning rate over the run: ``constant``, or ``one_cycle``, which rises to the
            optimiser's learning rate, then falls to nearly 0, a step at a time
            (https://arxiv.org/abs/1708.07120).
        warmup_fraction: The part of a ``one_cycle`` run in which the learning rate rises, from 0 to below 1.
        compile: Compiles the network with ``torch.compile`` for training.
        channels_last: Keeps the weights of convolutions in the memory format of that name, in which
            they are faster on most machines.

    Raises:
        ValueError: If ``warmup_fraction`` or ``lr_schedule`` is out of range, or the network, the optimiser or
            the augmentation can't be written down in a checkpoint.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module] = ArticleCNN,
        optimizer: OptimizerFactory = DEFAULT_OPTIMIZER,
        augmentation: Callable[[], nn.Module] | None = None,
        hflip_tta: bool = False,
        lr_schedule: Literal["constant", "one_cycle"] = "one_cycle",
        warmup_fraction: float = 0.1,
        compile: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(network, dict):
            network = from_spec(network)
        if isinstance(optimizer, dict):
            optimizer = from_spec(optimizer)
        if isinstance(augmentation, dict):
            augmentation = from_spec(augmentation)
        if not 0 <= warmup_fraction < 1:
            raise ValueError(
                f"warmup_fraction must be at least 0 and below 1, not {warmup_fraction}"
            )
        if lr_schedule not in ("constant", "one_cycle"):
            raise ValueError(f"lr_schedule must be constant or one_cycle, not {lr_schedule}")
        self.save_hyperparameters(
            {
                "network": to_spec(network),
                "optimizer": to_spec(optimizer),
                "augmentation": augmentation and to_spec(augmentation),
                "hflip_tta": hflip_tta,
                "lr_schedule": lr_schedule,
                "warmup_fraction": warmup_fraction,
                "compile": compile,
                "channels_last": channels_last,
            }
        )
        self.network = network()
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.augmentation = augmentation and augmentation()
        self.optimizer_factory = optimizer
        self.hflip_tta = hflip_tta
        self.lr_schedule = lr_schedule
        self.warmup_fraction = warmup_fraction
        self.compile_network = compile

        self.train_metrics = ClassificationMetrics(more=False)
        self.val_metrics = ClassificationMetrics()
        self.test_metrics = ClassificationMetrics()

    @property
    def backbone(self) -> nn.Module:
        """The part of the network that Lightning's ``BackboneFinetuning`` freezes at first.

        Raises:
            ValueError: If it has no such part.
        """
        if not hasattr(self.network, "backbone"):
            raise ValueError(
                f"{type(self.network).__name__} has no backbone to freeze; PretrainedNetwork has"
            )
        return self.network.get_submodule("backbone")

    def setup(self, stage: str) -> None:
        """Compiles the network where asked, in place, so that the names of its weights stay."""
        self.resumed = False
        if stage == "fit" and self.compile_network:
            self.network.compile()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remembers that the weights are those of the checkpoint."""
        self.resumed = True

    def on_fit_start(self) -> None:
        """Loads the weights that a pre-trained network begins with, downloaded once a machine."""
        if isinstance(self.network, PretrainedNetwork) and not self.resumed:
            first = self.trainer.local_rank == 0
            if first:
                self.network.load_pretrained()
            self.trainer.strategy.barrier()
            if not first:
                self.network.load_pretrained()  # from where the first has put it

    def forward(self, images: Tensor) -> Tensor:
        """Scores each class.

        Args:
            images: Pictures as they are in the data set, uint8, shape (N, 28, 28).

        Returns:
            Logits, float, shape (N, 10).
        """
        pixels = self.preprocess(images)
        if self.hflip_tta and not self.training:
            both: Tensor = self.network(torch.cat([pixels, pixels.flip(-1)]))  # (2 N, 10)
            return both.view(2, -1, NUM_CLASSES).mean(dim=0)
        logits: Tensor = self.network(pixels)
        return logits

    def preprocess(self, images: Tensor) -> Tensor:
        """What the network sees of pictures, uint8, shape (N, 28, 28): floats, (N, 1, 28, 28)."""
        return images.unsqueeze(1).to(self.dtype) / 255  # 0 to 1

    def on_train_epoch_start(self) -> None:
        """Begins the training metrics anew."""
        self.train_metrics.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss to minimise, shape ()."""
        if batch_idx == 0:  # before that, a DataLoader draws too, and not in each epoch
            self._seed_epoch()
        images, labels = batch
        if self.augmentation is not None:
            images = self.augmentation(images, labels)
        logits: Tensor = self(images)
        self.train_metrics.add(logits, labels)
        loss = F.cross_entropy(logits, labels)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self.log("train/loss_step", loss)
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def _seed_epoch(self) -> None:
        """Makes augmentation and dropout depend on seed, epoch and process alone.

        Otherwise a resumed run would draw others than one that was never stopped.
        """
        seed = os.environ.get("PL_GLOBAL_SEED")  # seed_everything leaves it there
        if seed is not None:
            torch.manual_seed((int(seed) << 32) + (self.current_epoch << 12) + self.global_rank)

    def _log_epoch(
        self, stage: str, metrics: ClassificationMetrics, logger: bool | None = None
    ) -> None:
        """Logs what is a number of the metrics of an epoch."""
        for kind in metrics.kinds:
            if kind != "confusion":
                self.log(f"{stage}/{kind}", metrics[kind], logger=logger)

    def on_train_epoch_end(self) -> None:
        """Logs the means over the epoch, as the weights were while it went on."""
        # Lightning would write them only after the checkpoint of the epoch, and a run that is
        # killed in between and resumed would lack them.
        self._log_epoch("train", self.train_metrics, logger=False)
        figures = {
            f"train/{kind}": float(self.train_metrics[kind].compute())
            for kind in self.train_metrics.kinds
        }
        for logger in self.loggers:
            logger.log_metrics(figures | {"epoch": self.current_epoch}, self.global_step - 1)

    def on_validation_epoch_start(self) -> None:
        """Begins the validation metrics anew."""
        self.val_metrics.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Adds a batch to the validation metrics, and gives its logits, shape (N, 10)."""
        logits: Tensor = self(batch[0])
        self.val_metrics.add(logits, batch[1])
        return logits

    def on_validation_epoch_end(self) -> None:
        """Logs the means over the validation pictures."""
        self._log_epoch("val", self.val_metrics)

    def on_test_epoch_start(self) -> None:
        """Begins the test metrics anew."""
        self.test_metrics.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Adds a batch to the test metrics, and gives its logits, shape (N, 10)."""
        logits: Tensor = self(batch[0])
        self.test_metrics.add(logits, batch[1])
        return logits

    def on_test_epoch_end(self) -> None:
        """Logs the means over the test pictures."""
        self._log_epoch("test", self.test_metrics)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probabilities of the classes, shape (N, 10)."""
        return self.probabilities(batch[0])

    def probabilities(self, images: Tensor) -> Tensor:
        """Says how likely each class is.

        Args:
            images: Pictures, uint8, shape (N, 28, 28), or several of each thing, shape
                (N, M, 28, 28), whose probabilities are averaged.

        Returns:
            Probabilities, float, shape (N, 10).
        """
        logits: Tensor = self(images.flatten(0, -3))
        return logits.float().softmax(dim=1).view(len(images), -1, NUM_CLASSES).mean(dim=1)

    @torch.inference_mode()
    def predict(self, pictures: Iterable[Picture], batch_size: int = 64) -> list[Answer]:
        """Classifies pictures or photos.

        Args:
            pictures: Files, Pillow images, or uint8 arrays or tensors, shape (H, W), (H, W, 3) or
                (H, W, 4). What is 28x28 is taken for a picture of the data set; all else for a
                photo, see :func:`~fmnist_lightning.photos.preprocessing.preprocess_photo`.
            batch_size: How many are classified at a time.

        Returns:
            An answer for each.

        Raises:
            ValueError: If one can't be read, or is of another shape or type.
            ImportError: If there are photos, and OpenCV is not installed.
        """
        shape = getattr(pictures, "shape", ())
        single = len(shape) == 2 or shape[2:] in ((3,), (4,))
        if single or isinstance(pictures, str | os.PathLike | Image):
            raise ValueError("predict takes a list of pictures, not a single one: put it in [ ]")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        answers, modules = [], [module for module in self.modules() if module.training]
        remaining = iter(pictures)
        self.eval()
        try:
            while part := [load_views(each) for each in itertools.islice(remaining, batch_size)]:
                chances = self.probabilities(torch.stack(part).to(self.device))
                answers += [Answer.of(row) for row in chances.tolist()]
        finally:
            for module in modules:
                module.training = True
        return answers

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds optimiser and schedule; the schedule moves with every step, not every epoch.

        Raises:
            ValueError: If the run has no end, which ``one_cycle`` needs to know, or unfreezes
                weights on the way, which it can't take in.
        """
        optimizer = self.optimizer_factory(
            parameter for parameter in self.parameters() if parameter.requires_grad
        )
        if self.lr_schedule == "constant":
            return optimizer
        if any(isinstance(each, BaseFinetuning) for each in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise ValueError(
                "the one_cycle schedule can't take in the weights that a finetuning callback "
                "unfreezes on the way: set --model.lr_schedule constant"
            )
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(
                "the one_cycle schedule needs to know the length of the run: "
                "set --trainer.max_epochs or --trainer.max_steps, or --model.lr_schedule constant"
            )
        scheduler = OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=int(steps),
            # A single step of warm-up would be at its peak at once, where PyTorch divides by zero.
            pct_start=0.0 if self.warmup_fraction * steps == 1 else float(self.warmup_fraction),
            cycle_momentum=False,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
