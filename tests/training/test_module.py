import csv
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from samples import tiny_data
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lightning import (
    MLP,
    ArticleCNN,
    FashionClassifier,
    FashionMNISTDataModule,
    RandomAugmentation,
    create_trainer,
)
from fmnist_lightning.data.dataset import CLASSES, Batch
from fmnist_lightning.internals.specs import from_spec

ROOT = Path(__file__).parents[2]


class Recorder(Callback):
    """Records the loss and the learning rate of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def train(
    classifier: FashionClassifier,
    data: FashionMNISTDataModule,
    epochs: int = 2,
    callbacks: Sequence[Callback] = (),
) -> tuple[Trainer, Recorder]:
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=[recorder, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=5,
    )
    trainer.fit(classifier, datamodule=data)
    return trainer, recorder


@pytest.mark.usefixtures("data_dir")
def test_article_config_equals_plain_pytorch() -> None:
    """The loss of every step, from the same weights and batches, to 1e-5."""
    config = yaml.safe_load((ROOT / "configs" / "article.yaml").read_text())
    seed_everything(0)
    model = config["model"]
    for key in ("network", "optimizer"):
        model[key] = from_spec(model[key])
    classifier = FashionClassifier(**model)
    data = tiny_data(batch_size=config["data"]["batch_size"])

    # The article's network, loss and optimiser in plain PyTorch, as it describes them.
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 10, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(160, 56), nn.ReLU(), nn.Linear(56, 10), nn.Sigmoid(),
    )  # fmt: skip
    start = [weight.detach().clone() for weight in classifier.network.parameters()]
    network.load_state_dict(dict(zip(network.state_dict(), start, strict=True)))
    _, recorder = train(classifier, data)

    optimizer = torch.optim.SGD(network.parameters(), lr=0.04)
    losses = []
    loader: Any = data.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(network(images.unsqueeze(1).float() / 255), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert len(losses) == 48
    assert recorder.losses == pytest.approx(losses, abs=1e-5)
    for ours, theirs, before in zip(
        classifier.network.parameters(), network.parameters(), start, strict=True
    ):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)
        assert (ours - before).abs().max() > 1e-4  # the weights have been trained


@pytest.mark.usefixtures("data_dir")
def test_metrics_count_every_image_once() -> None:
    data = tiny_data(eval_batch_size=50)  # 120 images: the last batch is smaller
    classifier = FashionClassifier()
    trainer, _ = train(classifier, data, epochs=1)
    assert_metrics(trainer, classifier, data.val_dataset, "val")
    trainer.test(classifier, datamodule=data, verbose=False)
    assert_metrics(trainer, classifier, data.test_dataset, "test")
    trainer.test(classifier, datamodule=data, verbose=False)  # metrics are reset
    assert classifier.test_metrics.compute()["confusion"].sum() == 105


def assert_metrics(
    trainer: Trainer, classifier: FashionClassifier, dataset: Any, stage: str
) -> None:
    with torch.no_grad():
        logits = classifier.eval()(dataset.images)
    metrics = trainer.callback_metrics
    accuracy = (logits.argmax(1) == dataset.labels).double().mean().item()
    assert metrics[f"{stage}/acc"].item() == pytest.approx(accuracy)
    loss = F.cross_entropy(logits, dataset.labels).item()
    assert metrics[f"{stage}/loss"].item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.usefixtures("data_dir")
def test_training_metrics_are_means_over_the_images_of_an_epoch() -> None:
    trainer, recorder = train(FashionClassifier(), tiny_data(), epochs=2)
    sizes = [50] * 9 + [30]
    mean = sum(loss * size for loss, size in zip(recorder.losses[10:], sizes, strict=True)) / 480
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(mean, rel=1e-5)


@pytest.mark.usefixtures("data_dir")
def test_logged_loss_and_learning_rate_are_those_of_their_step(tmp_path: Path) -> None:
    recorder, logger = Recorder(), CSVLogger(tmp_path)
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(
        **options, accelerator="cpu", max_epochs=1, logger=logger, callbacks=recorder,
        log_every_n_steps=4,
    )  # fmt: skip
    trainer.fit(FashionClassifier(), datamodule=tiny_data())
    with Path(logger.log_dir, "metrics.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["train/loss_step"]]
    assert [int(row["step"]) for row in rows] == [3, 7]
    for row in rows:
        step = int(row["step"])
        assert float(row["train/loss_step"]) == pytest.approx(recorder.losses[step], abs=1e-6)
        assert float(row["lr"]) == pytest.approx(recorder.rates[step], rel=1e-6)


@pytest.mark.usefixtures("data_dir")
def test_validation_accuracy_exceeds_80_percent() -> None:
    trainer, _ = train(
        FashionClassifier(optimizer=functools.partial(AdamW, lr=0.01)), tiny_data(), 4
    )
    assert trainer.callback_metrics["val/acc"] > 0.8


def test_forward_takes_uint8_images() -> None:
    class Probe(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.shape == (2, 1, 28, 28)
            assert images.dtype == torch.float32
            return images.flatten(1)[:, :10]

    classifier = FashionClassifier()
    classifier.network = Probe()
    images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    images[0, 0, 0] = 255
    assert classifier(images)[0, 0] == 1
    probabilities = classifier.predict_step((images, torch.zeros(2)), 0)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(2))


def test_hyperparameters_are_builtin_types() -> None:
    classifier = FashionClassifier(
        network=functools.partial(MLP, hidden_dim=3),
        optimizer=functools.partial(torch.optim.ASGD, lr=0.5),
        warmup_fraction=0.2,
    )
    optimizer = classifier.hparams.pop("optimizer")
    assert optimizer["class_path"] == "torch.optim.ASGD"
    assert optimizer["init_args"].items() >= {"lr": 0.5, "alpha": 0.75}.items()  # with defaults
    assert dict(classifier.hparams) == {
        "network": {
            "class_path": "fmnist_lightning.MLP",
            "init_args": {"hidden_dim": 3, "num_classes": 10},
        },
        "augmentation": None,
        "hflip_tta": False,
        "translation_tta": False,
        "lr_schedule": "one_cycle",
        "warmup_fraction": 0.2,
        "channels_last": True,
        "classes": list(CLASSES),
    }


@pytest.mark.usefixtures("data_dir")
def test_augmentation_changes_only_training_images() -> None:
    inputs: dict[str, list[Tensor]] = {"train": [], "val": []}

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = ArticleCNN()

        def forward(self, images: Tensor) -> Tensor:
            inputs["train" if self.training else "val"].append(images.detach())
            return self.network(images)  # type: ignore[no-any-return]

    classifier = FashionClassifier(
        augmentation=functools.partial(RandomAugmentation, hflip_prob=0.0, max_translation=27)
    )
    classifier.network = Probe()
    data = tiny_data()
    train(classifier, data, epochs=1)
    validated = torch.cat(inputs["val"])[-120:, 0].mul(255).round()
    assert torch.equal(validated, data.val_dataset.images.float())
    originals = {image.numpy().tobytes() for image in data.train_dataset.images}
    augmented = torch.cat(inputs["train"]).mul(255).round().to(torch.uint8)
    assert sum(image.numpy().tobytes() in originals for image in augmented) < 10


def test_hflip_tta_averages_both_orientations_in_evaluation() -> None:
    torch.manual_seed(0)
    classifier = FashionClassifier(hflip_tta=True).eval()
    images = torch.randint(0, 256, (6, 28, 28), dtype=torch.uint8)
    both = classifier(images)
    assert torch.allclose(both, classifier(images.flip(2)), atol=1e-6)
    classifier.hparams["hflip_tta"] = False
    one, other = classifier(images), classifier(images.flip(2))
    assert torch.allclose(both, (one + other) / 2, atol=1e-6)
    classifier.hparams["hflip_tta"] = True
    assert torch.equal(classifier.train()(images), one)


def test_translation_tta_averages_over_five_places_in_evaluation() -> None:
    torch.manual_seed(0)
    plain, images = FashionClassifier().eval(), torch.zeros(6, 28, 28, dtype=torch.uint8)
    images[:, 1:-1, 1:-1] = torch.randint(0, 256, (6, 26, 26))
    places = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    moved = [plain(images.roll(place, dims=(1, 2))) for place in places]
    classifier = FashionClassifier(translation_tta=True).eval()
    classifier.load_state_dict(plain.state_dict())
    assert torch.allclose(classifier(images), torch.stack(moved).mean(dim=0), atol=1e-6)
    classifier.hparams["hflip_tta"] = True
    both = classifier(images)
    assert torch.allclose(both, classifier(images.flip(2)), atol=1e-6)
    assert not torch.allclose(both, torch.stack(moved).mean(dim=0), atol=1e-6)


@pytest.mark.usefixtures("data_dir")
def test_calibration_error_uses_probabilities_not_logits() -> None:
    """Also where all logits are between 0 and 1, as after the article's sigmoid."""
    data = tiny_data()
    classifier = FashionClassifier(network=functools.partial(ArticleCNN, sigmoid=True))
    trainer, _ = train(classifier, data, epochs=1)
    with torch.no_grad():
        confidence, predicted = classifier.eval()(data.val_dataset.images).softmax(dim=1).max(dim=1)
    correct = (predicted == data.val_dataset.labels).float()
    bins = (confidence * 15).int()
    gaps = [(confidence - correct)[bins == each].sum().abs() for each in range(15)]
    assert trainer.callback_metrics["val/ece"].item() == pytest.approx(
        float(sum(gaps)) / 120, abs=1e-5
    )


@pytest.mark.usefixtures("data_dir")
def test_averaged_weights_are_validated_and_kept() -> None:
    seed_everything(0)
    classifier, data = FashionClassifier(), tiny_data()
    averaging = EMAWeightAveraging(decay=0.9)
    trainer, _ = train(classifier, data, 2, [averaging])
    assert_metrics(trainer, classifier, data.val_dataset, "val")  # the averages, after fit
    seed_everything(0)
    other = FashionClassifier()
    train(other, tiny_data(), 2)
    assert not torch.allclose(
        other.get_parameter("network.head.3.bias"),
        classifier.get_parameter("network.head.3.bias"),
    )


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_warmup_fraction_out_of_range_is_refused(warmup: float) -> None:
    with pytest.raises(ValueError, match=f"warmup_fraction must be .* not {warmup}"):
        FashionClassifier(warmup_fraction=warmup)


def test_article_cnn_is_the_default_and_gives_logits() -> None:
    network = FashionClassifier().network
    assert isinstance(network, ArticleCNN)
    assert not network.sigmoid


@pytest.mark.usefixtures("data_dir")
def test_channels_last_does_not_change_the_losses() -> None:
    runs: list[Recorder] = []
    for channels_last in (False, True):
        seed_everything(0)
        classifier = FashionClassifier(channels_last=channels_last)
        runs.append(train(classifier, tiny_data())[1])
        weight = classifier.network.get_parameter("features.2.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert runs[1].losses == pytest.approx(runs[0].losses, abs=1e-4)


@pytest.mark.usefixtures("data_dir")
def test_training_metrics_count_every_image_of_an_epoch_once() -> None:
    counts = []

    class Probe(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            for _ in range(2):
                pl_module.compute_metrics("train")
                metric = pl_module.train_metrics.metrics["acc"]
                counts.append(int(metric.tp + metric.fn))

    train(FashionClassifier(), tiny_data(), 2, [Probe()])
    assert counts == [480] * 4


@pytest.mark.usefixtures("data_dir")
def test_outputs_release_batches_from_workers() -> None:
    """A tensor from a worker keeps a file open; an epoch of them is more than a system allows."""
    was_shared = []

    class Probe(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            was_shared.append(batch[1].is_shared())

    classifier, data = FashionClassifier(), tiny_data()
    data.setup("fit")
    train_loader, val_loader = (
        DataLoader(TensorDataset(dataset.images, dataset.labels), 60, num_workers=2)
        for dataset in (data.train_dataset, data.val_dataset)
    )
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, callbacks=Probe(),
    )  # fmt: skip
    trainer.fit(classifier, train_loader, val_loader)
    assert was_shared == [True] * 8
    outputs = classifier.train_outputs + classifier.eval_outputs
    assert len(outputs) == 8 + 2
    tensors: list[Any] = [tensor for output in outputs for tensor in output]
    assert not any(tensor.is_shared() for tensor in tensors)


@pytest.mark.usefixtures("data_dir")
def test_training_step_that_keeps_no_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    class Plain(FashionClassifier):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            images, labels = batch
            return F.cross_entropy(self(images), labels)

    trainer = create_trainer(accelerator="cpu", max_epochs=1, num_threads=1, log_every_n_steps=5)
    trainer.fit(Plain(), datamodule=tiny_data())
    assert re.search(r"^epoch  1/1  val loss \d", capsys.readouterr().out, re.MULTILINE)
    assert "train/loss" not in trainer.callback_metrics
    assert "val/loss" in trainer.callback_metrics


@pytest.mark.usefixtures("data_dir")
def test_logits_of_an_own_forward_are_checked() -> None:
    class OwnForward(FashionClassifier):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)[:, :5]

    with pytest.raises(ValueError, match=r"returns shape \(\d+, 5\) for 10 classes; expected"):
        train(OwnForward(), tiny_data())
