"""What the command line says of itself, and what holds where it is given nothing."""

import argparse

from jsonargparse import DefaultHelpFormatter

DESCRIPTION = """Trains and tests classifiers of Fashion-MNIST. After fmnist_lightning:

  fit                           train the article's CNN (gets the data the first time)
  test --ckpt_path best.ckpt    test the best checkpoint of the latest fit
  predict --ckpt_path best.ckpt write its answers to the test pictures as CSV
  predict --ckpt_path best.ckpt --photos FOLDER    answer photos of clothes
  shifts --ckpt_path best.ckpt  test it on pictures that are moved
  export --ckpt_path best.ckpt  write it as an ONNX file
  fit --ckpt_path last          continue the latest fit where it was stopped
  fit --config my.yaml          train as a config says
  fit --print_config            print every setting, as a config to start from
  fit --help                    explain every setting
  fit --model.network.help fmnist_lightning.MLP    explain those of a network

"tensorboard --logdir runs" shows the runs made in this folder."""
ROOT = "runs"  # the folder of all runs
SEED = 0
TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "max_epochs": 12,
    "num_sanity_val_steps": 0,  # validation proper comes within seconds
    "default_root_dir": ROOT,
}


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description as they are."""
