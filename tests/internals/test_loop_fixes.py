from pathlib import Path

import pytest
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from samples import tiny_data

from fmnist_lightning import FashionClassifier, create_trainer
from fmnist_lightning.internals.fast_loop import FastEpochLoop

pytestmark = pytest.mark.usefixtures("data_dir")


@pytest.mark.parametrize("fast_loop", [True, False])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, [20, 30]),
        ({"max_epochs": -1, "max_steps": 14}, [10, 14]),
        ({"max_epochs": 2, "limit_val_batches": 0}, []),
    ],
    ids=["epochs", "steps", "no validation"],
)
def test_run_ends_with_a_validation(options, expected, fast_loop):
    steps = []
    callback = LambdaCallback(
        on_validation_start=lambda trainer, _: steps.append(trainer.global_step)
    )
    trainer = create_trainer(
        accelerator="cpu", callbacks=callback, fast_loop=fast_loop, log_every_n_steps=5, **options
    )
    assert isinstance(trainer.fit_loop.epoch_loop, FastEpochLoop) == fast_loop
    trainer.fit(FashionClassifier(), datamodule=tiny_data())
    assert steps == expected


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("fast_loop", [True, False])
def test_resume_after_max_steps_at_the_end_of_an_epoch(fast_loop):
    """The epoch of the checkpoint has ended, and does not end again."""
    epochs = []
    last = None
    for max_steps in (10, 30):
        seed_everything(0)
        callback = LambdaCallback(
            on_train_epoch_end=lambda trainer, _: epochs.append(
                (trainer.current_epoch, trainer.global_step)
            )
        )
        trainer = create_trainer(
            accelerator="cpu", max_epochs=-1, max_steps=max_steps, callbacks=callback,
            run_dir=Path("runs/mine"), fast_loop=fast_loop, log_every_n_steps=5,
        )  # fmt: skip
        classifier = FashionClassifier(lr_schedule="constant")
        trainer.fit(classifier, datamodule=tiny_data(), ckpt_path=last)
        last = Path("runs/mine/checkpoints/last.ckpt")
    assert epochs == [(0, 10), (1, 20), (2, 30)]
