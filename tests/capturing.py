"""Trainings whose steps are captured, compared with those op by op."""

import functools

from lightning.pytorch import Callback, seed_everything
from samples import tiny_data
from torch import nn
from torch.optim import SGD

from fmnist_lightning import ArticleCNN, FashionClassifier, create_trainer
from fmnist_lightning.internals.captured import CapturedStep

OP_BY_OP = "Training runs op by op, not as a CUDA graph, because "


class Dropout(ArticleCNN):
    def __init__(self):
        super().__init__()
        self.head.insert(1, nn.Dropout(0.3))


class Hooked(ArticleCNN):
    def __init__(self):
        super().__init__()
        self.head.register_forward_hook(lambda *args: None)


class LogsItsLoss(FashionClassifier):
    def compute_loss(self, images, targets):
        loss, logits = super().compute_loss(images, targets)
        self.log("doubled", 2 * loss)
        return loss, logits


class Recorder(Callback):
    """The loss of each step, the number of steps with a graph, and the metrics at the end.

    ``change`` is called with the module before a step of the third epoch.
    """

    def __init__(self, change=None, batch_idx=4):
        self.losses = []
        self.num_with_graph = 0
        self.change = change
        self.batch_idx = batch_idx

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.change and (trainer.current_epoch, batch_idx) == (2, self.batch_idx):
            self.change(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))
        step = vars(pl_module).get("training_loss")
        self.num_with_graph += isinstance(step, CapturedStep) and step.graph is not None

    def on_train_end(self, trainer, pl_module):
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}


def freeze(module):
    """Freezes the first convolution."""
    module.network.features[0].requires_grad_(False)


def double(module):
    """Has the network return its logits twice as large."""
    module.network.head.register_forward_hook(lambda layer, inputs, logits: 2 * logits)


def train(module, recorder=None, **kwargs):
    """A fit of 10 steps an epoch, the last one of 30 images; its weights."""
    recorder = recorder or Recorder()
    seed_everything(0)
    options = {"accelerator": "gpu", "max_epochs": 5, "logger": False}
    options["deterministic"] = True  # or operations differ by rounding
    classifier = module()
    create_trainer(callbacks=recorder, **options | kwargs).fit(classifier, datamodule=tiny_data())
    return recorder, {key: value.cpu() for key, value in classifier.state_dict().items()}


def sgd(network=ArticleCNN, **kwargs):
    """Not AdamW, which makes steps of the same size from gradients that are rounding errors."""
    optimizer = functools.partial(SGD, lr=0.02, momentum=0.9)
    return functools.partial(FashionClassifier, network, optimizer, **kwargs)
