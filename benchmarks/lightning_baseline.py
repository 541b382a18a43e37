"""Times the epochs of `examples/minimal_lightning.py`, on the CPU and with the Rich bar."""

from common import baseline_parser
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from minimal_lightning import Classifier, FashionMNISTData
from stopwatch import Stopwatch


def main() -> None:
    """Trains in the current folder."""
    args = baseline_parser(__doc__).parse_args()
    seed_everything(0, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=args.epochs,
        logger=TensorBoardLogger("lightning_logs", name=None),
        callbacks=[Stopwatch(), RichProgressBar(), ModelCheckpoint(monitor="val/loss")],
    )
    trainer.fit(Classifier(), FashionMNISTData(args.data_dir, args.batch_size))


if __name__ == "__main__":
    main()
