"""The LightningModule: steps, metrics, optimizer."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from typing_extensions import override

from fmnist_lightning.data.augmentation import tta_views
from fmnist_lightning.data.checks import to_uint8
from fmnist_lightning.data.dataset import CLASSES, Batch
from fmnist_lightning.internals.specs import resolve
from fmnist_lightning.models.cnn import ArticleCNN
from fmnist_lightning.training.checks import check_classes, check_logits, check_settings, unpack
from fmnist_lightning.training.lr_schedule import one_cycle
from fmnist_lightning.training.metrics import ClassificationMetrics

# SGD with momentum is as good in batches of 128, but diverges in batches of 20 to 64.
DEFAULT_OPTIMIZER = functools.partial(AdamW, lr=0.01, weight_decay=0.05)


class FashionClassifier(LightningModule):
    """Trains and evaluates an image classifier.

    A network, optimizer or augmentation is given as a class, or as ``functools.partial(Class,
    argument=value)``, so that a checkpoint can store how to build it again.

    Args:
        network: Any ``nn.Module`` from float images, 0 to 1, shape (N, 1, 28, 28), to logits, shape
            (N, C). An argument ``num_classes`` is set to C.
        optimizer: Gets the parameters as its first argument.
        augmentation: Changes training images: ``RandomAugmentation``, or any ``nn.Module`` from
            uint8 images, shape (N, 28, 28), and labels, shape (N,), to images.
        hflip_tta: Test-time augmentation: in evaluation, averages the logits of each image and its
            horizontal flip.
        translation_tta: The same with its translations by a pixel to each side, 5 times the time.
        lr_schedule: ``constant``, or ``one_cycle`` (https://arxiv.org/abs/1708.07120), which rises
            to the optimizer's learning rate, then falls to almost 0, step by step.
        warmup_fraction: The part of a ``one_cycle`` run in which the learning rate rises, 0 to
            below 1.
        channels_last: Whether to keep convolution weights in the channels-last memory format, which
            is faster on most machines.
        classes: Names of the C classes, in the order of the labels.

    Raises:
        ValueError: If an argument is out of range, or a checkpoint could not store it.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module] = ArticleCNN,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = DEFAULT_OPTIMIZER,
        augmentation: Callable[[], nn.Module] | None = None,
        hflip_tta: bool = False,
        translation_tta: bool = False,
        lr_schedule: Literal["constant", "one_cycle"] = "one_cycle",
        warmup_fraction: float = 0.1,
        channels_last: bool = True,
        classes: Sequence[str] = CLASSES,
    ) -> None:
        super().__init__()
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must be 0 to below 1, not {warmup_fraction}")
        if lr_schedule not in ("constant", "one_cycle"):
            raise ValueError(f"lr_schedule must be constant or one_cycle, not {lr_schedule}")
        self.classes = tuple(map(str, classes))
        if len(set(self.classes)) < len(classes):
            raise ValueError(f"two classes have the same name: {', '.join(self.classes)}")
        # `resolve` returns what builds each of them, and the same as plain data for the checkpoint.
        # A textbook module would only call `save_hyperparameters()`.
        build_network, network_spec = resolve(network, num_classes=len(classes))
        self.build_optimizer, optimizer_spec = resolve(optimizer)
        build_augmentation, augmentation_spec = resolve(augmentation)
        self.save_hyperparameters(
            {
                "network": network_spec,
                "optimizer": optimizer_spec,
                "augmentation": augmentation_spec,
                "hflip_tta": hflip_tta,
                "translation_tta": translation_tta,
                "lr_schedule": lr_schedule,
                "warmup_fraction": warmup_fraction,
                "channels_last": channels_last,
                "classes": list(self.classes),
            }
        )
        self.trained_on: list[dict[str, Any]] = []  # states of the data modules of all fits
        self.network: nn.Module = build_network()
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.augmentation: nn.Module | None = build_augmentation()
        # From augmented images to class probabilities, which replace labels: see Distillation.
        self.soft_labels: Callable[[Tensor], Tensor] | None = None
        self.train_metrics = ClassificationMetrics(len(classes), ("loss", "acc"))
        self.val_metrics = ClassificationMetrics(len(classes))
        self.test_metrics = ClassificationMetrics(len(classes))
        # Of each step of the latest epoch of a stage: see `keep_outputs`.
        self.step_outputs: dict[str, list[tuple[Tensor, ...]]] = {
            "train": [],
            "val": [],
            "test": [],
        }

    def preprocess(self, images: Tensor) -> Tensor:
        """Network inputs, float, 0 to 1, (N, 1, 28, 28), from uint8 or such floats, (N, 28, 28)."""
        inputs = images.unsqueeze(1).to(self.dtype)
        return inputs if images.is_floating_point() else inputs / 255

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (N, C), of uint8 images, shape (N, 28, 28)."""
        if self.training:
            return self.network(self.preprocess(images))  # type: ignore[no-any-return]
        views = tta_views(images, self.hparams["hflip_tta"], self.hparams["translation_tta"])
        return torch.stack([self.network(self.preprocess(view)) for view in views]).mean(dim=0)

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities, shape (N, C), of uint8 images, shape (N, 28, 28)."""
        logits: Tensor = self(images)
        return logits.float().softmax(dim=1)

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The cross-entropy of a batch, shape ()."""
        images, labels = unpack(batch, len(self.classes), batch_idx == 0)
        loss, logits = self.training_loss(images, labels)
        # A clone: each tensor that comes from a worker process keeps a file open.
        labels = labels if labels.is_cuda else labels.clone()
        self.keep_outputs("train", batch_idx, labels, logits.detach())
        log_every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if log_every and (self.global_step + 1) % log_every == 0:  # self.log takes time
            self.log("train/loss_step", loss)
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def training_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, shape (), and the logits, shape (N, C), of images after augmentation."""
        if self.augmentation is not None:
            images = self.augmentation(images, labels)
        targets = self.soft_labels(images) if self.soft_labels else labels
        return self.compute_loss(images, targets)

    def compute_loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, shape (), and the logits, shape (N, C), of augmented images."""
        logits = check_logits(self(images), len(self.classes))
        return F.cross_entropy(logits, targets), logits

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluation_step("val", batch, batch_idx)

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluation_step("test", batch, batch_idx)

    def _evaluation_step(self, stage: str, batch: Batch, batch_idx: int) -> None:
        images, labels = unpack(batch, len(self.classes), batch_idx == 0)
        logits = check_logits(self(images), len(self.classes))
        self.keep_outputs(stage, batch_idx, images.clone(), labels.clone(), logits)

    def keep_outputs(self, stage: str, batch_idx: int, *outputs: Tensor) -> None:
        """Keeps outputs of a step for the metrics of its epoch, whose update in each takes time.

        Args:
            stage: ``train``, ``val`` or ``test``.
            batch_idx: The position of the batch; the first one ends the epoch before.
            *outputs: Maybe images; labels, shape (N,); logits, shape (N, C), without gradients.
        """
        if batch_idx == 0:  # not in a hook: a subclass may override those without super()
            self.step_outputs[stage].clear()
            getattr(self, f"{stage}_metrics").reset()
        self.step_outputs[stage].append(outputs)

    @override
    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities of a batch, shape (N, C)."""
        return self.probabilities(to_uint8(batch[0]))

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds the optimizer of all trainable parameters, and its schedule."""
        optimizer = self.build_optimizer(p for p in self.parameters() if p.requires_grad)
        if self.hparams["lr_schedule"] == "constant":
            return optimizer  # type: ignore[no-any-return]
        schedule: Any = one_cycle(optimizer, self.trainer, self.hparams["warmup_fraction"])
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    @override
    def on_train_epoch_end(self) -> None:
        """Logs loss and accuracy of the epoch, each batch with the weights before its step."""
        values = self._log_metrics("train", logger=False)
        # Lightning would write them after the checkpoint of the epoch: a run killed in between
        # and resumed would lack them.
        for logger in self.loggers:
            logger.log_metrics(values | {"epoch": self.current_epoch}, self.global_step - 1)

    @override
    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    @override
    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def compute_metrics(self, stage: str) -> dict[str, Tensor]:
        """The metrics of an epoch over all ranks, which all call it; {} if no outputs are kept."""
        if not self.step_outputs[stage]:
            return {}
        metrics: ClassificationMetrics = getattr(self, f"{stage}_metrics")
        if not metrics["loss"].update_called:  # else a callback has asked before
            *_, labels, logits = zip(*self.step_outputs[stage], strict=True)
            metrics.update(torch.cat(logits), torch.cat(labels))
        return metrics.compute()

    def _log_metrics(self, stage: str, logger: bool | None = None) -> dict[str, float]:
        """Logs the metrics of an epoch that are numbers, and returns them."""
        metrics = self.compute_metrics(stage)
        metrics.pop("confusion", None)
        values = {f"{stage}/{name}": value.item() for name, value in metrics.items()}
        self.log_dict(values, logger=logger, sync_dist=True)  # or Lightning warns; they are equal
        return values

    @override
    def on_train_start(self) -> None:
        check_classes(self)

    on_validation_start = on_test_start = on_predict_start = on_train_start

    @override
    def on_fit_start(self) -> None:
        getattr(self.network, "load_pretrained", lambda: None)()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer and self.trainer.state.fn == "fit":  # a run is resumed
            check_settings(checkpoint["hyper_parameters"], dict(self.hparams))

    @property
    def backbone(self) -> nn.Module:
        """What Lightning's ``BackboneFinetuning`` freezes at first."""
        if not hasattr(self.network, "backbone"):
            raise ValueError(f"{type(self.network).__name__} has no submodule `backbone` to freeze")
        return self.network.get_submodule("backbone")
