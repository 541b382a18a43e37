"""``create_trainer`` as a script uses it."""

import contextlib
import functools
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import assert_same_run
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning
from processes import wait_for_next_second
from samples import tiny_data
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from fmnist_lightning import (
    FashionClassifier,
    FashionMNISTDataModule,
    RandomAugmentation,
    SmallResNet,
    create_trainer,
    load_classifier,
)
from fmnist_lightning.data.dataset import TensorImageDataset
from fmnist_lightning.data.hash_split import HashSplitDataModule
from fmnist_lightning.runs.checkpoint import read_checkpoint

pytestmark = pytest.mark.usefixtures("data_dir")
CPU: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "log_every_n_steps": 5}


def test_fit_keeps_a_run_folder_and_prints_losses(capsys: pytest.CaptureFixture[str]) -> None:
    seed_everything(0)
    trainer = create_trainer(max_epochs=2, **CPU)
    trainer.fit(FashionClassifier(), datamodule=tiny_data(eval_batch_size=50))
    (run_dir,) = Path("runs").iterdir()
    assert Path(trainer.default_root_dir) == run_dir
    assert {path.name for path in (run_dir / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list(run_dir.glob("events.out.tfevents.*"))
    assert os.readlink("best.ckpt") == str(run_dir / "checkpoints" / "best.ckpt")
    assert load_classifier("best.ckpt").network
    losses = re.findall(r"train loss (\d\.\d{4}) .* val loss (\d\.\d{4})", capsys.readouterr().out)
    assert len(losses) == 2
    for printed, stage in zip(losses[1], ("train", "val"), strict=True):
        assert printed == f"{trainer.callback_metrics[f'{stage}/loss']:.4f}"


def test_fit_takes_data_loaders() -> None:
    losses = []
    for with_loaders in (False, True):
        seed_everything(0)
        data = tiny_data()
        data.setup("fit")
        arguments = (data.train_dataloader(), data.val_dataloader()) if with_loaders else (data,)
        trainer = create_trainer(max_epochs=1, **CPU)
        trainer.fit(FashionClassifier(), *arguments)
        losses.append(trainer.callback_metrics["val/loss"])
    assert losses[0] == losses[1]


def test_non_finite_loss_stops_fit() -> None:
    classifier = FashionClassifier(
        optimizer=functools.partial(SGD, lr=1e30), lr_schedule="constant"
    )
    trainer = create_trainer(max_epochs=2, **CPU)
    with pytest.raises(FloatingPointError, match=r"the loss became NaN or infinite at step"):
        trainer.fit(classifier, datamodule=tiny_data(eval_batch_size=50))
    last = read_checkpoint(Path(trainer.default_root_dir, "checkpoints", "last.ckpt"))
    assert last["global_step"] == 0


class DarkAndBright(HashSplitDataModule):
    """Images in memory, whose order of batches and split are those of the base class."""

    classes = ("dark", "bright")

    def read(self, split: str) -> TensorImageDataset | None:
        if split == "val":
            return None
        labels = torch.arange(600) % 2
        noise = torch.randint(0, 200, (600, 28, 28), generator=torch.Generator().manual_seed(0))
        return TensorImageDataset((noise + 20 * labels[:, None, None]).to(torch.uint8), labels)


class SmoothedClassifier(FashionClassifier):
    """Trains with noise on the logits and label smoothing."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        assert self.augmentation is not None
        logits: Tensor = self(self.augmentation(images, labels))
        logits = logits + 0.1 * torch.randn_like(logits)
        self.train_outputs.append((labels, logits.detach()))
        self.log("train/max_logit", logits.max())
        return nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)


class Interruption(Callback):
    """Raises an error in a training step."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 25:
            raise OSError("interrupted")


class NetworkWithBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16))
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits


class FreezeLater(BaseFinetuning):
    """Freezes the backbone in the second epoch."""

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        pass

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Optimizer) -> None:
        if epoch == 1:
            self.freeze(pl_module.backbone, train_bn=False)


class UnfreezeAll(Callback):
    """Trains nothing but the head until the third epoch; the optimizer has all."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        pl_module.build_optimizer = lambda _: SGD(pl_module.parameters(), lr=0.1)
        pl_module.backbone.requires_grad_(False)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            pl_module.backbone.requires_grad_(True)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(
    "callback",
    [functools.partial(BackboneFinetuning, 1, train_bn=False), FreezeLater, UnfreezeAll],
    ids=["BackboneFinetuning", "freeze", "unfreeze"],
)
def test_resume_trains_the_weights_that_callbacks_had_not_frozen(
    callback: Callable[[], Callback],
) -> None:
    def fit(*others: Callback, run_dir: Path, ckpt_path: Path | None = None) -> Path:
        seed_everything(0)
        optimizer = functools.partial(SGD, lr=0.1)
        classifier = FashionClassifier(NetworkWithBackbone, optimizer, lr_schedule="constant")
        callbacks = [callback(), *others]
        trainer = create_trainer(max_epochs=4, run_dir=run_dir, callbacks=callbacks, **CPU)
        with contextlib.suppress(OSError):
            trainer.fit(classifier, datamodule=tiny_data(), ckpt_path=ckpt_path)
        return run_dir / "checkpoints" / "last.ckpt"

    uninterrupted, interrupted = Path("runs/whole"), Path("runs/halves")
    fit(run_dir=uninterrupted)
    last = fit(Interruption(), run_dir=interrupted)
    assert read_checkpoint(last)["global_step"] == 20
    wait_for_next_second()
    fit(run_dir=interrupted, ckpt_path=last)
    assert_same_run(uninterrupted, interrupted)


class CtrlC(Callback):
    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 14:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_interrupted_script_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning ignores any other Ctrl+C
    folders = []
    for callbacks in ([], [CtrlC()]):
        seed_everything(0)
        trainer = create_trainer(max_epochs=3, callbacks=callbacks, **CPU)
        folders.append(Path(trainer.default_root_dir))
        classifier, data = FashionClassifier(), tiny_data()
        if not callbacks:
            trainer.fit(classifier, datamodule=data)
            continue
        with pytest.raises(SystemExit):
            trainer.fit(classifier, datamodule=data)
        (path,) = re.findall(
            r"Interrupted at step 14\. Resume from step 10 with: trainer\.fit\(\.\.\., "
            r'ckpt_path="(.*)"\)\n$',
            capsys.readouterr().out,
        )
        trainer.callbacks.remove(callbacks[0])  # type: ignore[attr-defined]
        wait_for_next_second()
        trainer.fit(classifier, datamodule=data, ckpt_path=path)  # the same, as in a notebook
    assert_same_run(*folders)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_second_fit_of_a_trainer_says_that_another_trainer_is_needed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = create_trainer(max_epochs=1, **CPU)
    for _ in range(2):
        line = "This trainer has done 10 steps; a new run needs a new trainer"
        assert line not in capsys.readouterr().out
        trainer.fit(FashionClassifier(), datamodule=tiny_data())
    assert line in capsys.readouterr().out


def test_trainer_in_a_thread_says_that_results_are_not_repeatable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "Fits in threads share one random generator: their results can't be repeated"
    create_trainer(max_epochs=1, **CPU)
    assert line not in capsys.readouterr().out
    thread = threading.Thread(target=create_trainer, kwargs={"max_epochs": 1, **CPU})
    thread.start()
    thread.join()
    assert line in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_resume_of_a_subclass_on_own_images_is_bit_identical() -> None:
    def fit(ckpt_path: Path | None = None, **kwargs: Any) -> Path:
        seed_everything(0)
        network = functools.partial(SmallResNet, channels=(8,), dropout=0.2)
        classifier = SmoothedClassifier(
            network=network, augmentation=RandomAugmentation, classes=DarkAndBright.classes
        )
        trainer = create_trainer(max_epochs=4, **kwargs, **CPU)
        run_dir = Path(trainer.default_root_dir)
        try:
            trainer.fit(classifier, datamodule=DarkAndBright(batch_size=50), ckpt_path=ckpt_path)
        except OSError:
            assert read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["global_step"] == 20
        else:
            assert trainer.global_step == 40
        return run_dir

    uninterrupted = fit()
    interrupted = fit(callbacks=Interruption())
    wait_for_next_second()
    assert fit(interrupted / "checkpoints" / "last.ckpt", run_dir=interrupted) == interrupted
    assert_same_run(uninterrupted, interrupted)


class OtherDataModule(FashionMNISTDataModule):
    """The same images under another name."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimizer": functools.partial(AdamW, lr=0.5)},
            "trained with optimizer.init_args.lr 0.01, not 0.5",
        ),
        ({"max_epochs": 3}, "the one_cycle schedule of the run is for 10 steps, not 30"),
        ({"split_seed": 1}, "trained with split_seed 0, not 1"),
        ({"data_class": OtherDataModule}, "was trained on fmnist_lightning.FashionMNISTDataModule"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_resume_with_other_settings_is_refused(changes: dict[str, Any], message: str) -> None:
    run_dir = Path("runs/mine")

    def fit(
        max_epochs: int = 1,
        split_seed: int = 0,
        data_class: type[FashionMNISTDataModule] = FashionMNISTDataModule,
        ckpt_path: Path | None = None,
        **kwargs: Any,
    ) -> None:
        trainer = create_trainer(run_dir=run_dir, max_epochs=max_epochs, logger=False, **CPU)
        data = data_class(train_size=480, val_size=120, batch_size=50, split_seed=split_seed)
        trainer.fit(FashionClassifier(**kwargs), datamodule=data, ckpt_path=ckpt_path)

    fit()
    last = run_dir / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(ckpt_path=last, **changes)
    assert last.read_bytes() == before
    fit(ckpt_path=last)  # the same settings


def test_eval_outputs_hold_the_latest_evaluation_once() -> None:
    classifier, data = FashionClassifier(), tiny_data(eval_batch_size=50)
    trainer = create_trainer(max_epochs=2, **CPU)
    trainer.fit(classifier, datamodule=data)
    for evaluate in (trainer.validate, trainer.validate, trainer.test):
        evaluate(classifier, datamodule=data, verbose=False)
        dataset: Any = data.test_dataset if evaluate == trainer.test else data.val_dataset
        images, labels, logits = map(torch.cat, zip(*classifier.eval_outputs, strict=True))
        assert torch.equal(images, dataset.images)
        assert torch.equal(labels, dataset.labels)
        with torch.no_grad():
            assert torch.allclose(logits, classifier.eval()(images), atol=1e-5)
