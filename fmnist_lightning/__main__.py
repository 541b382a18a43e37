"""``python -m fmnist_lightning``, and the console script ``fmnist-lightning``."""

import argparse
import atexit
import gc
import logging
import os
import re
import sys
import threading

from lightning.fabric.utilities.exceptions import MisconfigurationException

from fmnist_lightning.cli import commands
from fmnist_lightning.data.download import DataError
from fmnist_lightning.internals.console import hide_messages
from fmnist_lightning.internals.non_finite import NonFiniteError
from fmnist_lightning.internals.signals import (
    is_dead_rank_error,
    raise_on_signals,
    signal_exit_code,
)

# Python would go through all modules of PyTorch again before it ends, which takes a second.
atexit.register(gc.freeze)

# Their message says all; that of another error may need its type and the traceback.
CLEAR_ERRORS = (
    argparse.ArgumentError,
    ValueError,
    OSError,
    ImportError,
    NonFiniteError,
    MisconfigurationException,
)


def main(args: list[str] | None = None) -> int:
    """Runs the command line, by default that of the process; returns the exit code.

    0; 1 for an error, 2 for one in the command line; 130 and 143 after Ctrl+C and SIGTERM; 141
    where the reader of the output went away.
    """
    args = sys.argv[1:] if args is None else args
    # Classes of the current folder can be named, with the console script as with `python -m`.
    sys.path.insert(0, "")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fmnist_lightning").setLevel(logging.INFO)
    hide_messages()
    threading.excepthook = _thread_excepthook
    try:
        with raise_on_signals():
            commands.run(args)
        return 0
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain
        return 141  # 128 + SIGPIPE
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if code := signal_exit_code():
            return code
        if "--debug" in args or not isinstance(error, Exception):
            raise
        print(f"error: {describe_error(error)}", file=sys.stderr)
        return 2 if isinstance(error, argparse.ArgumentError) else 1


def describe_error(error: Exception) -> str:
    """What went wrong, in one line."""
    for problem in (error, error.__cause__):  # the parser wraps what a data module raises
        if isinstance(problem, DataError):
            return str(problem)  # lists sources or files in lines of their own
    if is_dead_rank_error(error):
        return "a distributed worker exited; see its output"
    text = " ".join(str(error).split())
    missing = re.search(r"Requirement '.*?' not met\. HINT: Try running `.*?`", text)
    if missing:  # of a logger, among all types that the parser has tried
        return missing[0]
    if isinstance(error, CLEAR_ERRORS):
        return text
    return f"{type(error).__name__}: {text} (--debug shows the traceback)"


def _thread_excepthook(args: threading.ExceptHookArgs) -> None:
    """Hides errors of TensorBoard's writer thread, which raises them in the main thread too."""
    if not isinstance(args.exc_value, OSError):
        threading.__excepthook__(args)


if __name__ == "__main__":
    sys.exit(main())
