import re
from pathlib import Path
from types import SimpleNamespace

import torch
from comparing import curves
from conftest import TINY
from lightning.pytorch import seed_everything

from fmnist_lightning.training.callbacks import SeedEachEpoch


def random_number(epoch, batch_idx, rank=0):
    """The first number that is drawn in a step."""
    seed_everything(0, verbose=False)
    torch.manual_seed(batch_idx)  # as if earlier steps had drawn numbers
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    module = None
    SeedEachEpoch().on_train_batch_start(trainer, module, None, batch_idx)
    return torch.rand(()).item()


def test_random_numbers_depend_on_epoch_and_rank_and_go_on_within_an_epoch():
    first = random_number(epoch=1, batch_idx=0)
    assert random_number(epoch=1, batch_idx=0) == first
    others = {random_number(epoch=2, batch_idx=0), random_number(epoch=1, batch_idx=0, rank=1)}
    assert len(others | {first}) == 3
    second = random_number(epoch=1, batch_idx=1)
    assert second == random_number(epoch=2, batch_idx=1) != random_number(epoch=1, batch_idx=2)


def test_fit_prints_one_line_per_epoch(run):
    code, out, _ = run("fit", *TINY, "--trainer.max_epochs", "3")
    assert code == 0
    number = r"(\d+\.\d+)"
    part = f"loss {number} acc +{number} %"
    line = rf"epoch +(\d)/3  train {part}  val {part}(.*)"
    epochs = re.findall(line, out)
    assert [epoch[0] for epoch in epochs] == ["1", "2", "3"]
    best = float("inf")
    for *_, val_loss, _, note in epochs:
        assert ("improved" in note) == (float(val_loss) < best)
        best = min(best, float(val_loss))
    assert f"(val loss {best:.4f})" in out
    (run_dir,) = Path("runs").iterdir()
    losses = [f"{loss:.4f}" for _, loss in curves(run_dir)["train/loss"]]
    assert [loss for _, loss, *_ in epochs] == losses


def test_epoch_without_validation_prints_no_validation_metrics(run):
    every_second = ("--trainer.check_val_every_n_epoch", "2")
    code, out, _ = run("fit", *TINY, "--trainer.max_epochs", "5", *every_second)
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("epoch")]
    validated = ["val loss" in line for line in lines]
    assert validated == [False, True, False, True, True]  # always in the last


def test_resumed_run_compares_with_the_lowest_loss_of_the_run(fit, run):
    fit("--model.lr_schedule", "constant", "--model.optimizer.lr", "0.001")
    validate = run("validate", "--ckpt_path", "best.ckpt")[1]
    (loss,) = re.findall(r"validate loss (\S+)", validate)
    code, out, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert code == 0, err
    assert f" %  improved from {loss}\n" in out
