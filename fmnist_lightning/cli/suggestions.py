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
    "network": "model.network",
    "resume": "ckpt_path last",
    "seed": "seed_everything",
    "logdir": "trainer.default_root_dir",
    "model.compile": "trainer.compile",
}
UNKNOWN = r"[Uu]nrecognized arguments?: -*([\w.-]+)"
UNKNOWN_NESTED = r"Option '([\w.-]+)' is not accepted"
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
    options = [name.replace(".init_args", "") for name in (*names, "ckpt_path", "trust")]
    *groups, last = re.split(r'Parser key "([\w.]+)": ', error)
    option = ".".join(key for key in dict.fromkeys(groups[1::2]) if key != "config")
    if match := re.search(r"arguments are required: (\w+)", error):
        return f"--{option}.{match[1]} is missing"
    if match := re.search(UNKNOWN_NESTED, error):
        prefix = f"{option}." if option else ""
        siblings = [name.removeprefix(prefix) for name in options if name.startswith(prefix)]
        siblings = [name for name in siblings if "." not in name and name != "class_path"]
        name = match[1].replace("-", "_")
        meant = closest(SYNONYMS.get(name, name).rpartition(".")[2], siblings)
        hint = f"; known are {', '.join(siblings)}" if siblings else ""
        hint = f"; did you mean --{prefix}{meant}?" if meant else hint
        return f"there is no option --{prefix}{match[1]}{hint}"
    if match := re.search(UNKNOWN, error):
        if "arguments: -" not in error:
            return f"{error}; an option begins with --, such as --ckpt_path {match[1]}"
        name = match[1].replace("-", "_")
        by_last = {option.rpartition(".")[2]: option for option in reversed(options)}
        meant = SYNONYMS.get(name) or by_last.get(name) or closest(name, [*options, *by_last])
        hint = f"; did you mean --{by_last.get(meant, meant)}?" if meant else ""
        return f"{error}{hint}"
    types, value = re.search(TYPES, last), re.search(VALUE, last)
    if not (option and types and value):
        return error
    expected = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", types[1] or types[2])
    expected = re.sub(r"\w+\.Literal|[\[\]']", "", expected).replace("NoneType", "null")
    choices = " or ".join(dict.fromkeys(expected.split(", ")))
    return f"--{option} {value[1]}: expected {choices}"
