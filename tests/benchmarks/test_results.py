import re

import common
import results
from samples import CONFIGS


def test_results_tables_are_those_of_the_saved_runs() -> None:
    for page, names in results.TABLES.items():
        assert results.MARKS.find(page) == results.table(results.load(names))
    gpu = results.table(results.load(folder=results.GPU_RESULTS))
    assert results.GPU_MARKS.find(common.DOCS / "benchmarks.md") == gpu


def test_each_saved_row_is_in_a_table() -> None:
    shown = {name for names in results.TABLES.values() for name in names}
    assert shown == set(results.ROWS)


def test_each_config_gives_the_result_of_its_saved_runs() -> None:
    rows = results.load()
    for config in CONFIGS:
        assert results.header(rows[config.stem]) in config.read_text().splitlines()


def test_teachers_of_the_rows_are_those_of_their_configs() -> None:
    found = {
        config.stem: teacher
        for config in CONFIGS
        for teacher in re.findall(r"teacher: (\w+)\.ckpt", config.read_text())
    }
    assert found == results.TEACHERS


def test_summary_has_mean_and_standard_deviation_over_the_seeds() -> None:
    runs = [
        {
            "parameters": 11252,
            "epochs": 3,
            "fit_seconds": seconds,
            "validate": {"accuracy": accuracy},
            "test": {"accuracy": accuracy - 0.01, "ece": accuracy - 0.895},
        }
        for seconds, accuracy in ((10.0, 0.90), (21.0, 0.91), (20.0, 0.92))
    ]
    row = results.summarize({"runs": runs})
    assert row["seconds"] == "17 s"
    assert row["validate"] == "91.00 ± 1.00"
    assert row["test"] == "90.00 ± 1.00"
    assert row["ece"] == "1.50"
    assert row["test_seeds"] == "89.00, 90.00, 91.00"
