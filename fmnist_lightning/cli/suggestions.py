"""Errors of the command line that name what was probably meant."""

import difflib
import re
from collections.abc import Iterable

# What people try, and the options that are meant.
SYNONYMS = {
    "epochs": "trainer.max_epochs",
    "gpu": "trainer.accelerator gpu",
    "gpus": "trainer.accelerator gpu",
    "device": "trainer.accelerator",
    "learning_rate": "model.optimizer.lr",
    "resume": "ckpt_path last",
    "seed": "seed_everything",
    "logdir": "trainer.default_root_dir",
    "compile": "trainer.compile",
}
UNKNOWN = r"(?:Option '|[Uu]nrecognized arguments: -+)([\w.-]+)"
TYPES = r".*Subtypes: \[(.*?)\] Errors|Expected an? (.*?)\. Got value"
VALUE = r"(?:Given|Got) value: (.*?)(?:\. Got value|$)"


def closest(name: str, options: Iterable[str]) -> str | None:
    """The option whose spelling is nearest, whatever the case; None if none is near."""
    by_lower = {option.lower(): option for option in options}
    longer = [option for option in by_lower if len(name) > 2 and name.lower() in option]
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.65)
    return next((by_lower[option] for option in (*near, *longer)), None)


def explain(error: str, names: Iterable[str]) -> str:
    """An error of the parser in one line, with the option that was meant or what was expected.

    Args:
        error: Its text.
        names: The options of the parser.
    """
    error = " ".join(error.split())
    *groups, last = re.split(r'Parser key "([\w.]+)": ', error)
    option = ".".join(key for key in dict.fromkeys(groups[1::2]) if key != "config")
    if match := re.search(r"arguments are required: (\w+)", error):
        return f"--{option}.{match[1]} is missing"
    if match := re.search(r"nrecognized arguments: ([^-]\S*)", error):
        return f"{error}; an option begins with --, such as --ckpt_path {match[1]}"
    if match := re.search(UNKNOWN, error):
        return _suggest(f"{option}.{match[1]}".lstrip("."), names)
    types, value = re.search(TYPES, last), re.search(VALUE, last)
    if not (option and types and value):
        return error
    expected = re.sub(r"<class '|[\w.]+\.|Literal|[\[\]'>]", "", types[1] or types[2])
    choices = " or ".join(dict.fromkeys(expected.replace("NoneType", "null").split(", ")))
    return f"--{option} {value[1]}: expected {choices}"


def _suggest(name: str, names: Iterable[str]) -> str:
    """The error for an option that does not exist, with one that does."""
    names = (each.replace(".init_args", "").removesuffix(".class_path") for each in names)
    options = [*names, "ckpt_path", "trust"]
    group, _, last = name.replace("-", "_").rpartition(".")
    siblings = [option for option in options if option.startswith(group)] or options
    by_last = {option.rpartition(".")[2]: option for option in siblings if option != group}
    meant = SYNONYMS.get(last) or closest(last, by_last)
    hint = f"; known are {', '.join(by_last)}" if group else ""
    if meant:
        hint = f"; did you mean --{by_last.get(meant, meant)}?"
    return f"there is no option --{name}{hint}"
