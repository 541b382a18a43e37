"""The classifier and the data module of this package on Lightning's own command line.

    python examples/lightning_cli.py fit --trainer.max_epochs 3
    python examples/lightning_cli.py test --ckpt_path CHECKPOINT

`LightningCLI` makes an option of every argument of the module, the data module and the trainer.
`python -m fmnist_lightning` has the same options, and what `create_trainer` gives a run.
"""

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from typing_extensions import override

from fmnist_lightning import FashionClassifier, FashionMNISTDataModule


class ClassifierCLI(LightningCLI):
    """`fit`, `validate`, `test` and `predict`."""

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        init_args = {"lr": 0.01, "weight_decay": 0.05}
        optimizer = {"class_path": "torch.optim.AdamW", "init_args": init_args}
        parser.set_defaults({"model.optimizer": optimizer})


def main() -> None:
    """Runs the command that is given."""
    ClassifierCLI(FashionClassifier, FashionMNISTDataModule, seed_everything_default=0)


if __name__ == "__main__":
    main()
