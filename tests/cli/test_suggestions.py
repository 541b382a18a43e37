"""What people type, and the line they get."""

import shlex
from pathlib import Path

import pytest
from conftest import TINY

OWN_CLASS = "? A class of your own needs its module: my_module.MyClass"
TYPOS = {
    # classes
    "fit --model.network mlp": "--model.network mlp: did you mean MLP" + OWN_CLASS,
    "fit --model.network fmnist_lightning.MPL": "has no attribute 'MPL'; did you mean MLP?",
    "fit --model.network nosuch.Net": "--model.network nosuch.Net: No module named 'nosuch'",
    "fit --model.optimizer adam": "--model.optimizer adam: did you mean Adam?",
    "fit --data imagefolder": "--data imagefolder: did you mean ImageFolderDataModule?",
    "fit --trainer.logger csv": "--trainer.logger csv: did you mean CSVLogger?",
    "fit --trainer.callbacks+=earlystopping": "earlystopping: did you mean EarlyStopping?",
    # options
    "fit --epochs 3": "did you mean --trainer.max_epochs?",
    "fit -epochs 3": "did you mean --trainer.max_epochs?",
    "fit --max-epochs 3": "did you mean --trainer.max_epochs?",
    "fit --trainer.max_epochz 3": "did you mean --trainer.max_epochs?",
    "fit --model.netwrk MLP": "did you mean --model.network?",
    "fit --model.optimzer SGD": "did you mean --model.optimizer?",
    "fit --optimizer SGD": "did you mean --model.optimizer?",
    "fit --lr 3": "did you mean --model.optimizer.lr?",
    "fit --batch_size 3": "did you mean --data.batch_size?",
    "fit --data.batch-size 3": "no option --data.batch-size; did you mean --data.batch_size?",
    "fit --model.hflip true": "did you mean --model.hflip_tta?",
    "fit --seed 1": "did you mean --seed_everything?",
    "fit --conf fast": "did you mean --config?",
    "fit --model.network MLP --model.network.hidden 3": "did you mean --model.network.hidden_dim?",
    "fit --model.optimizer.momentum 0.9": "optimizer.momentum; known are lr, betas, eps,",
    "test best.ckpt": "an option begins with --, such as --ckpt_path best.ckpt",
    "fit --qwertz 3": "there is no option --qwertz",
    "tets --ckpt_path best.ckpt": "there is no command 'tets'; choose one of fit, validate, test,",
    # values
    "fit --model.optimizer.lr 0,01": "--model.optimizer.lr 0,01: expected float or Tensor",
    "fit --trainer.max_epochs soon": "--trainer.max_epochs soon: expected int or null",
    "fit --model.lr_schedule onecycle": "onecycle: expected constant or one_cycle",
    "fit --model.hflip_tta maybe": "--model.hflip_tta maybe: expected bool",
    "fit --data ImageFolderDataModule": "--data.data_dir is missing",
    "fit --config fst": "unknown config 'fst': choose one of article, best, fast,",
}


@pytest.mark.parametrize("command", TYPOS)
def test_typo_gives_one_line_with_what_was_meant(command, refused):
    assert TYPOS[command] in refused(*shlex.split(command))


UNTYPED = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, hidden, num_classes=10):
        super().__init__(nn.Flatten(), nn.Linear(784, hidden), nn.Linear(hidden, num_classes))
"""


def test_missing_argument_is_named_that_has_no_type(refused, run):
    Path("untyped.py").write_text(UNTYPED)
    network = ("--model.network", "untyped.Net")
    dry = (*TINY, "--trainer.fast_dev_run", "true")
    assert run("fit", *network, "--model.network.hidden", "8", *dry)[0] == 0
    assert refused("fit", *network) == "error: --model.network.hidden is missing"


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_metric_that_does_not_exist_is_refused_before_training(callback, refused):
    options = ("--trainer.callbacks", callback, "--trainer.callbacks.monitor", "val_loss")
    message = refused("fit", *TINY, *options)
    assert "val_loss, which is not logged; did you mean val/loss?" in message
