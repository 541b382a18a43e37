"""Injects every fault that is promised to be survived, and counts.

    python benchmarks/faults.py

Runs the tests named below, also the slow ones, and writes the README's table; the counts go to
`results/faults.json`. One test case injects one fault, or several one after another. `--table` runs
nothing and writes the table from what is saved.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import results

SAVED = results.SAVED / "faults.json"
MARKS = "<!-- faults: written by benchmarks/faults.py -->\n", "<!-- end of faults -->\n"
TESTS = results.README.parent / "tests"


class Row(NamedTuple):
    """A line of the table."""

    fault: str
    promise: str
    tests: tuple[str, ...]  # file.function each


ROWS = (
    Row(
        "SIGKILL at any of twelve moments, once or thrice",
        "`fit --ckpt_path last` comes to the weights, scores and curves of a run that went through",
        (
            "test_resume.test_a_run_that_was_killed_ends_as_one_that_was_not",
            "test_resume.test_so_does_every_config",
        ),
    ),
    Row(
        "Ctrl+C, SIGTERM",
        "exit code 130 or 143, the checkpoints stay, and one line says how to go on",
        (
            "test_stopping.test_a_signal_stops_a_fit_and_says_how_to_go_on",
            "test_stopping.test_a_signal_stops_the_other_commands",
        ),
    ),
    Row(
        "a loss, or weights, that are not finite",
        "the run stops, names the step and its learning rate, and saves nothing of it",
        (
            "test_stopping.test_a_loss_that_is_not_finite_stops_the_run",
            "test_stopping.test_nor_are_weights_saved_that_are_not_finite",
        ),
    ),
    Row(
        "a disk that is full, a folder that can't be written",
        "an error at the start where it can be known; what was there before stays readable",
        (
            "test_stopping.test_a_disk_that_is_full_is_known_at_the_start",
            "test_stopping.test_so_is_a_folder_that_cannot_be_written",
            "test_checkpoint.test_a_failed_write_leaves_the_old_checkpoint",
            "test_download.test_a_disk_that_is_full",
            "test_download.test_permissions",
        ),
    ),
    Row(
        "data truncated, swapped, with a flipped bit, left half-written",
        "good data or one error, never wrong pictures; the bad file is kept aside",
        (
            "test_download.test_sets_a_bad_file_aside_and_replaces_it",
            "test_download.test_leaves_a_bad_file_where_it_is_if_there_is_no_good_one",
            "test_download.test_what_a_killed_process_left_is_tidied_away",
        ),
    ),
    Row(
        "a mirror that stalls, trickles, resets, lies, or serves something else",
        "the next source is asked",
        (
            "test_download.test_a_server_with_a_fault_is_passed_over",
            "test_download.test_a_length_that_is_no_number_is_not_needed",
            "test_download.test_gives_a_silent_mirror_up",
            "test_download.test_goes_on_to_the_next_mirror",
        ),
    ),
    Row(
        "sixteen processes at once, or the one that fetches is killed",
        "each file is fetched once, and all have it",
        (
            "test_download.test_sixteen_processes_at_once",
            "test_download.test_others_go_on_where_the_one_that_fetches_is_killed",
        ),
    ),
    Row(
        "a checkpoint that is damaged, another program's, or holds code",
        "refused in one line; nothing of it is run",
        (
            "test_checkpoint.test_a_file_of_another_kind",
            "test_checkpoint.test_damaged_file",
            "test_checkpoint.test_a_payload_is_not_run",
            "test_checkpoint.test_a_checkpoint_of_another_program",
            "test_checkpoint.test_weights_that_do_not_fit",
            "test_checkpoint.test_a_url_is_not_followed",
            "test_hostile.test_files_that_are_no_checkpoint_of_ours",
            "test_hostile.test_a_url_is_not_followed",
        ),
    ),
    Row(
        "a checkpoint, or a run's config, whose settings name code",
        "nothing is imported or called, by any command or the library",
        (
            "test_checkpoint.test_a_strangers_class_is_not_even_imported",
            "test_hostile.test_hyperparameters_that_name_code",
            "test_hostile.test_the_config_of_a_run_that_is_resumed",
        ),
    ),
    Row(
        "settings that are unknown, of the wrong type or out of range",
        "refused before any work, by their names",
        (
            "test_cli.test_mistakes_get_one_line",
            "test_datamodule.test_arguments_out_of_range_are_refused_by_name",
            "test_hostile.test_any_setting_is_taken_or_refused_by_its_name",
        ),
    ),
    Row(
        "pictures that are bombs, cut off, empty, or no pictures; any file name",
        "skipped by name; the others are answered",
        (
            "test_images.test_a_bomb_is_not_unpacked",
            "test_images.test_what_is_wrong_with_a_file",
            "test_predict_photos.test_any_name_is_read",
            "test_hostile.test_any_bytes_are_a_photo_or_an_error",
        ),
    ),
    Row(
        "one of two processes is killed",
        "the other says so, and the run goes on from its last epoch to the same end",
        ("test_distributed.test_a_run_goes_on_after_one_of_its_processes_was_killed",),
    ),
    Row(
        "two processes in place of one, by each launcher",
        "the same training up to rounding, every picture counted once",
        (
            "test_distributed.test_two_processes_train_as_one",
            "test_distributed.test_each_picture_is_counted_once",
            "test_launchers.test_two_processes_come_to_what_one_does",
        ),
    ),
    Row(
        "10,000 photos; 200 epochs",
        "memory and open files don't grow",
        (
            "test_load.test_ten_thousand_photos_take_no_more_memory_than_a_thousand",
            "test_load.test_two_hundred_epochs_take_no_more_than_fifty",
        ),
    ),
)


def main() -> None:
    """Runs the tests, saves the counts, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="run nothing, write the table")
    if not parser.parse_args().table:
        saved = {"machine": results.machine(), "cases": measure()}
        SAVED.write_text(json.dumps(saved, indent=1) + "\n")
    results.replace_between(results.README, MARKS, table(json.loads(SAVED.read_text())["cases"]))


def measure() -> dict[str, list[int]]:
    """Runs the tests: for each, how many of its cases passed, and how many there are."""
    names = [test.split(".") for row in ROWS for test in row.tests]
    with tempfile.TemporaryDirectory() as here:
        report = Path(here, "report.xml")
        command = [sys.executable, "-m", "pytest", "--numprocesses", "2", f"--junitxml={report}"]
        command += [f"{next(TESTS.rglob(f'{file}.py'))}::{function}" for file, function in names]
        subprocess.run(command, cwd=TESTS.parent, check=False)
        found: dict[str, list[int]] = {f"{file}.{function}": [0, 0] for file, function in names}
        for case in ElementTree.parse(report).iter("testcase"):
            function = re.sub(r"\[.*", "", case.attrib["name"], flags=re.DOTALL)
            counts = found[f"{case.attrib['classname'].split('.')[-1]}.{function}"]
            counts[0] += len(case) == 0  # no failure, error or skip in it
            counts[1] += 1
    return found


def table(cases: dict[str, list[int]]) -> str:
    """The README's table: a line for each kind of fault."""
    lines = ["| what happens | what is promised | tests | injected | survived |"]
    lines.append("| --- | --- | --- | ---: | ---: |")
    for row in ROWS:
        files = ", ".join(
            f"`{name}.py`" for name in dict.fromkeys(t.split(".")[0] for t in row.tests)
        )
        passed, total = (sum(cases[test][index] for test in row.tests) for index in (0, 1))
        lines.append(f"| {row.fault} | {row.promise} | {files} | {total} | {passed} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
