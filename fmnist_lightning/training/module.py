"""The LightningModule: steps, metrics, optimiser."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from fmnist_lightning.data.augmentation import tta_views
from fmnist_lightning.data.dataset import CLASSES, Batch
from fmnist_lightning.internals.specs import from_spec, to_spec, with_argument
from fmnist_lightning.internals.step import CompiledStep, require_compiler
from fmnist_lightning.models.cnn import ArticleCNN
from fmnist_lightning.training.lr_schedule import one_cycle
from fmnist_lightning.training.metrics import ClassificationMetrics, cross_entropy

# In batches of 128, SGD with momentum is as good; in batches of 20 to 64, it diverges.
DEFAULT_OPTIMIZER = functools.partial(AdamW, lr=0.01, weight_decay=0.05)


class FashionClassifier(LightningModule):
    """Trains and evaluates an image classifier.

    A network, optimiser or augmentation is given as a class, or as ``functools.partial(Class,
    argument=value)``, so that a checkpoint can store how to build it again.

    Args:
        network: Any ``nn.Module`` from float images, 0 to 1, shape (N, 1, 28, 28), to logits, shape
            (N, C). An argument ``num_classes`` is set to C.
        optimizer: Gets the parameters as its first argument.
        augmentation: Changes training images: ``RandomAugmentation``, or any ``nn.Module`` from
            uint8 images, shape (N, 28, 28), and labels, shape (N,), to images.
        hflip_tta: Test-time augmentation: in evaluation, averages the logits of each image and its
            horizontal flip.
        translation_tta: The same with the image and its translations by a pixel to each side: five
            times the time, ten with both.
        lr_schedule: ``constant``, or ``one_cycle`` (https://arxiv.org/abs/1708.07120), which rises
            to the optimiser's learning rate, then falls to almost 0, step by step.
        warmup_fraction: The part of a ``one_cycle`` run in which the learning rate rises, 0 to
            below 1.
        compile: Whether to train with ``torch.compile``: forward and backward pass as one graph on
            a single device, otherwise, or with a ``training_step`` of your own, the network.
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
        compile: bool = False,
        channels_last: bool = True,
        classes: Sequence[str] = CLASSES,
    ) -> None:
        super().__init__()
        # `load_from_checkpoint` gives what the checkpoint holds: specs.
        if isinstance(network, dict):
            network = from_spec(network)
        network = with_argument(network, "num_classes", len(classes))
        if isinstance(optimizer, dict):
            optimizer = from_spec(optimizer)
        if isinstance(augmentation, dict):
            augmentation = from_spec(augmentation)
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must be 0 to below 1, not {warmup_fraction}")
        if lr_schedule not in ("constant", "one_cycle"):
            raise ValueError(f"lr_schedule must be constant or one_cycle, not {lr_schedule}")
        hparams: dict[str, Any] = {"network": to_spec(network), "optimizer": to_spec(optimizer)}
        hparams |= {"augmentation": augmentation and to_spec(augmentation)}
        self.save_hyperparameters(ignore=[*hparams, "classes"])
        self.save_hyperparameters(hparams | {"classes": list(classes)})
        self.classes = tuple(classes)
        self.network: nn.Module = network()
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.augmentation = augmentation and augmentation()
        self.build_optimizer = optimizer
        # Class probabilities of augmented images, instead of labels in the loss: see Distillation.
        self.soft_labels: Callable[[Tensor], Tensor] | None = None
        self.compiled_step: CompiledStep | None = None
        self.train_metrics = ClassificationMetrics(len(classes), evaluation=False)
        self.val_metrics = ClassificationMetrics(len(classes))
        self.test_metrics = ClassificationMetrics(len(classes))
        # Images, labels and logits of the latest validation or test on this rank.
        self.eval_outputs: list[tuple[Tensor, Tensor, Tensor]] = []

    def setup(self, stage: str) -> None:
        """Compiles the training step, or the network in place, which keeps its weights' names."""
        if stage != "fit" or not self.hparams["compile"]:
            return
        if self.trainer.strategy.root_device.type == "cpu":
            require_compiler()
        own = type(self).training_step is not FashionClassifier.training_step
        self.compiled_step = None if own else CompiledStep.create(self, self._checked_logits)
        if self.compiled_step is None:
            self.network.compile()

    def on_fit_start(self) -> None:
        """Loads the pre-trained weights that a network starts from, downloaded once per machine."""
        load = getattr(self.network, "load_pretrained", None)
        if load is None or self.trainer.ckpt_path:
            return
        if self.trainer.local_rank == 0:
            load()
        self.trainer.strategy.barrier()
        if self.trainer.local_rank != 0:
            load()  # from the cache that local rank 0 filled

    @property
    def backbone(self) -> nn.Module:
        """What Lightning's ``BackboneFinetuning`` freezes at first."""
        if not hasattr(self.network, "backbone"):
            name = type(self.network).__name__
            raise ValueError(f"{name} has no backbone to freeze; PretrainedNetwork has")
        return self.network.get_submodule("backbone")

    def preprocess(self, images: Tensor) -> Tensor:
        """Network inputs, float, 0 to 1, shape (N, 1, 28, 28), from uint8 images (N, 28, 28)."""
        return images.unsqueeze(1).to(self.dtype) / 255

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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The cross-entropy of a batch, shape ()."""
        images, labels = batch
        if self.augmentation is not None:
            images = self.augmentation(images, labels)
        targets = self.soft_labels(images) if self.soft_labels else labels
        if self.compiled_step:
            loss, logits = self.compiled_step(images, targets)
        else:
            logits = self._checked_logits(images)
            loss = cross_entropy(logits, targets)
        self.train_metrics.update(logits, labels)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:  # self.log costs time in every step
            self.log("train/loss_step", loss)
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Computes the gradients, unless the compiled step already has."""
        if self.compiled_step:
            self.compiled_step.backward(self.trainer.accumulate_grad_batches)
        else:
            super().backward(loss, *args, **kwargs)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Stores the logits of a batch for the metrics and charts of the epoch."""
        images, labels = batch
        logits = self._checked_logits(images)
        # Clones: each tensor that comes from a worker process keeps a file open.
        self.eval_outputs.append((images.clone(), labels.clone(), logits))

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities of a batch, shape (N, C)."""
        return self.probabilities(batch[0])

    def _checked_logits(self, images: Tensor) -> Tensor:
        """Raises if network and class names do not agree on the number of classes."""
        logits: Tensor = self(images)
        expected = (len(images), len(self.classes))
        if logits.shape != expected:
            raise ValueError(
                f"the network gives an output of shape {tuple(logits.shape)}, not {expected}, for "
                f"{expected[0]} images and {expected[1]} classes: "
                "give it an argument num_classes, which is set to their number"
            )
        return logits

    def on_train_epoch_start(self) -> None:
        """Resets the training metrics."""
        self.train_metrics.reset()

    def on_train_epoch_end(self) -> None:
        """Logs the means over the epoch, in which the weights changed with every step."""
        values = self._log_metrics("train", self.train_metrics, logger=False)
        # Lightning would write them after the checkpoint of the epoch: a run killed in between
        # and resumed would lack them.
        for logger in self.loggers:
            logger.log_metrics(values | {"epoch": self.current_epoch}, self.global_step - 1)

    def on_validation_epoch_start(self) -> None:
        """Resets the outputs of the previous evaluation."""
        self.eval_outputs.clear()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the validation images."""
        self._finish_evaluation("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Logs the metrics of the test images."""
        self._finish_evaluation("test", self.test_metrics)

    def _finish_evaluation(self, stage: str, metrics: ClassificationMetrics) -> None:
        metrics.reset()
        for _, labels, logits in self.eval_outputs:
            metrics.update(logits, labels)
        self._log_metrics(stage, metrics)

    def _log_metrics(
        self, stage: str, metrics: ClassificationMetrics, logger: bool | None = None
    ) -> dict[str, float]:
        """Logs the metrics that are numbers, and returns them."""
        values = {f"{stage}/{k}": v for k, v in metrics.compute().items() if v.dim() == 0}
        self.log_dict(values, logger=logger, sync_dist=True)  # the same on all ranks already
        return {name: float(value) for name, value in values.items()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds the optimiser of all trainable parameters, and its schedule."""
        optimizer = self.build_optimizer(p for p in self.parameters() if p.requires_grad)
        if self.hparams["lr_schedule"] == "constant":
            return optimizer
        warmup_fraction = float(self.hparams["warmup_fraction"])
        schedule: Any = one_cycle(optimizer, self.trainer, warmup_fraction)
        return {"optimizer": optimizer, "lr_scheduler": schedule}
