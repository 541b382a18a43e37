"""``python -m fmnist_lightning``, and the console script ``fmnist-lightning``."""

import argparse
import logging
import os
import sys
import threading
import warnings

from lightning.fabric.utilities.exceptions import MisconfigurationException

from fmnist_lightning import shifts
from fmnist_lightning.cli import FashionCLI
from fmnist_lightning.data.download import DataError
from fmnist_lightning.export import onnx as export
from fmnist_lightning.internals.stopping import (
    DivergenceError,
    is_dead_rank_error,
    raise_on_sigterm,
    signal_exit_code,
)

COMMANDS = {"export": export.main, "shifts": shifts.main}  # besides those of the Trainer
# What messages of Lightning have in them that a user here can do nothing with.
NOISE = (
    "💡 Tip",
    "Loading `train_dataloader` to estimate",
    "Seed set to",
    "TPU available",
    "Detected KeyboardInterrupt",
    "Received SIGTERM",
    "`Trainer.fit` stopped",
)


def _quieten() -> None:
    """Lets this package's messages through, and holds back what a user here can do nothing with."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fmnist_lightning").setLevel(logging.INFO)
    for package in ("lightning.fabric", "lightning.pytorch"):
        for handler in logging.getLogger(package).handlers:
            handler.addFilter(
                lambda record: not any(noise in record.getMessage() for noise in NOISE)
            )
    threading.excepthook = _in_thread
    # The pictures are in memory: workers would only make batches slower.
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    # A run that is resumed saves where it saved before.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    # A run that goes on from another run's checkpoint has its own folder, and finds its own best.
    warnings.filterwarnings("ignore", message="The dirpath has changed")
    # The summary counts bytes as if weights had 32 bits, which they do but for the `-true` modes.
    warnings.filterwarnings("ignore", message="Precision .* is not supported by the model summary")
    # Lightning's own use of an old name in PyTorch.
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")


def _in_thread(args: threading.ExceptHookArgs) -> None:
    """Prints the traceback of a thread, but for what its owner raises again in the main thread.

    That is what TensorBoard's writer does where a file can't be written.
    """
    if not isinstance(args.exc_value, OSError):
        threading.__excepthook__(args)


def main(args: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        args: The command line without the name of the program; by default, the process's own.

    Returns:
        The exit code: 0, or 1 where something went wrong, or 2 where the command line itself is,
        or 130 or 143 where Ctrl+C or SIGTERM stopped it, or 141 where nobody reads the output.
    """
    args = sys.argv[1:] if args is None else args
    # Classes in the current folder can be named, with the console script as with `python -m`.
    sys.path.insert(0, "")
    _quieten()
    try:
        with raise_on_sigterm():
            if args[:1] and args[0] in COMMANDS:
                COMMANDS[args[0]]([arg for arg in args[1:] if arg != "--debug"])
                return 0
            cli = FashionCLI(args)
    except (KeyboardInterrupt, SystemExit) as error:
        code = signal_exit_code(error)
        if code is None:
            raise
        return code
    except BrokenPipeError:  # whoever read the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain
        return 141  # 128 + SIGPIPE, as other programs
    except (
        argparse.ArgumentError,
        ValueError,
        OSError,
        ImportError,
        DataError,
        DivergenceError,
        MisconfigurationException,
    ) as error:
        if "--debug" in args:
            raise
        text = str(error) if isinstance(error, DataError) else " ".join(str(error).split())
        print(f"error: {text}", file=sys.stderr)
        return 2 if isinstance(error, argparse.ArgumentError) else 1
    except RuntimeError as error:
        if not is_dead_rank_error(error) or "--debug" in args:
            raise
        print(
            "error: another process of this run has ended; its own output says why", file=sys.stderr
        )
        return 1
    num_skipped = cli.photo_report.num_skipped if cli.photo_report else 0
    if num_skipped:
        photos = "1 photo was" if num_skipped == 1 else f"{num_skipped:,} photos were"
        print(f"error: {photos} skipped, see above", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
