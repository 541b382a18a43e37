import csv
import functools
import re
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import CSVLogger
from samples import tiny_data, train
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lightning import MLP, FashionClassifier, create_trainer
from fmnist_lightning.data.dataset import CLASSES
from fmnist_lightning.internals.specs import from_spec

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("data_dir")


def test_article_config_equals_plain_pytorch():
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
    loader = data.train_dataloader()
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


def test_metrics_of_a_stage_count_each_image_once():
    classifier, data = FashionClassifier(), tiny_data(eval_batch_size=50)  # some are smaller
    trainer, recorder = train(classifier, data)
    metrics = dict(trainer.callback_metrics)
    sizes = [50] * 9 + [30]
    mean = sum(loss * size for loss, size in zip(recorder.losses[10:], sizes, strict=True)) / 480
    assert metrics["train/loss"].item() == pytest.approx(mean, rel=1e-5)
    for _ in range(2):  # metrics and outputs are those of the latest evaluation
        trainer.test(classifier, datamodule=data, verbose=False)
    assert classifier.test_metrics.compute()["confusion"].sum() == 105
    images = torch.cat([images for images, _, _ in classifier.step_outputs["test"]])
    assert torch.equal(images, data.test_dataset.images)
    metrics |= trainer.callback_metrics
    datasets = {"val": data.val_dataset, "test": data.test_dataset}
    for stage, dataset in datasets.items():
        with torch.no_grad():
            logits = classifier.eval()(dataset.images)
        accuracy = (logits.argmax(1) == dataset.labels).double().mean().item()
        assert metrics[f"{stage}/acc"].item() == pytest.approx(accuracy)
        loss = F.cross_entropy(logits, dataset.labels).item()
        assert metrics[f"{stage}/loss"].item() == pytest.approx(loss, rel=1e-5)


def test_logged_loss_and_learning_rate_are_those_of_their_step(tmp_path):
    logger = CSVLogger(tmp_path)
    _, recorder = train(FashionClassifier(), tiny_data(), epochs=1, logger=logger)
    with Path(logger.log_dir, "metrics.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["train/loss_step"]]
    assert [int(row["step"]) for row in rows] == [3, 7]
    for row in rows:
        step = int(row["step"])
        assert float(row["train/loss_step"]) == pytest.approx(recorder.losses[step], abs=1e-6)
        assert float(row["lr"]) == pytest.approx(recorder.rates[step], rel=1e-6)


def test_hyperparameters_are_builtin_types():
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


class OwnHooks(FashionClassifier):
    """Hooks without super(), as those of a LightningModule are empty."""

    def on_train_epoch_start(self):
        self.started = True

    on_validation_epoch_start = on_test_epoch_start = on_train_epoch_start


def test_metrics_do_not_depend_on_hooks_that_a_subclass_overrides():
    results = []
    for module in (FashionClassifier, OwnHooks):
        seed_everything(0)
        classifier = module()
        trainer, _ = train(classifier, tiny_data())
        metrics = dict(trainer.callback_metrics)
        for seed in (0, 1):
            trainer.test(classifier, datamodule=tiny_data(split_seed=seed), verbose=False)
        results.append(metrics | trainer.callback_metrics)
    assert results[0] == results[1]


class Black(nn.Module):
    """An augmentation that leaves nothing of the images."""

    def forward(self, images, labels):
        return torch.zeros_like(images)


def test_augmentation_changes_only_training_images():
    classifier = FashionClassifier(augmentation=Black)
    train(classifier, tiny_data(), epochs=1)
    _, logits = classifier.step_outputs["train"][-1]
    assert torch.allclose(logits, logits[0], atol=1e-5)  # for all images
    images, _, logits = classifier.step_outputs["val"][-1]
    with torch.no_grad():
        assert torch.allclose(logits, classifier.eval()(images), atol=1e-5)
    assert not torch.allclose(logits, logits[0], atol=1e-2)


def test_tta_averages_over_views_in_evaluation():
    torch.manual_seed(0)
    plain, images = FashionClassifier().eval(), torch.zeros(6, 28, 28, dtype=torch.uint8)
    images[:, 1:-1, 1:-1] = torch.randint(0, 256, (6, 26, 26))
    places = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    moved = [images.roll(place, dims=(1, 2)) for place in places]
    for hflip, translation, views in (
        (True, False, [images, images.flip(2)]),
        (False, True, moved),
        (True, True, [*moved, *(view.flip(2) for view in moved)]),
    ):
        classifier = FashionClassifier(hflip_tta=hflip, translation_tta=translation).eval()
        classifier.load_state_dict(plain.state_dict())
        expected = torch.stack([plain(view) for view in views]).mean(dim=0)
        assert torch.allclose(classifier(images), expected, atol=1e-6)
        assert torch.equal(classifier.train()(images), plain(images))


def test_channels_last_does_not_change_the_losses():
    runs = []
    for channels_last in (False, True):
        seed_everything(0)
        classifier = FashionClassifier(channels_last=channels_last)
        runs.append(train(classifier, tiny_data())[1])
        weight = classifier.network.get_parameter("features.2.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert runs[1].losses == pytest.approx(runs[0].losses, abs=1e-4)


def test_outputs_release_batches_from_workers():
    """A tensor from a worker keeps a file open; an epoch of them is more than a system allows."""
    classifier, data = FashionClassifier(), tiny_data()
    data.setup("fit")
    loaders = (
        DataLoader(TensorDataset(dataset.images, dataset.labels), 60, num_workers=2)
        for dataset in (data.train_dataset, data.val_dataset)
    )
    _, recorder = train(classifier, *loaders, epochs=1)
    assert recorder.was_shared == [True] * 8
    outputs = classifier.step_outputs["train"] + classifier.step_outputs["val"]
    assert len(outputs) == 8 + 2
    tensors = [tensor for output in outputs for tensor in output]
    assert not any(tensor.is_shared() for tensor in tensors)


def test_training_step_that_keeps_no_outputs(capsys):
    class Plain(FashionClassifier):
        def training_step(self, batch, batch_idx):
            images, labels = batch
            return F.cross_entropy(self(images), labels)

    trainer = create_trainer(accelerator="cpu", max_epochs=1, num_threads=1, log_every_n_steps=5)
    trainer.fit(Plain(), datamodule=tiny_data())
    assert re.search(r"^epoch  1/1  val loss \d", capsys.readouterr().out, re.MULTILINE)
    assert "train/loss" not in trainer.callback_metrics
    assert "val/loss" in trainer.callback_metrics


class OwnEvaluation(FashionClassifier):
    """Steps as in a LightningModule of one's own."""

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("val/loss", F.cross_entropy(self(images), labels))

    def test_step(self, batch, batch_idx):
        images, labels = batch
        self.log("test/loss", F.cross_entropy(self(images), labels))


def test_evaluation_steps_that_keep_no_outputs(capsys):
    trainer = create_trainer(accelerator="cpu", max_epochs=2, num_threads=1, log_every_n_steps=5)
    classifier = OwnEvaluation()
    trainer.fit(classifier, datamodule=tiny_data())
    assert "val/loss" in trainer.callback_metrics
    assert Path("best.ckpt").exists()
    assert re.search(r"^epoch  2/2  train loss .* %$", capsys.readouterr().out, re.MULTILINE)
    assert trainer.test(classifier, datamodule=tiny_data(), verbose=False)[0]["test/loss"] > 0
