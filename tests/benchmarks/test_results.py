import results
from samples import CONFIGS


def test_each_row_has_saved_runs_whose_result_is_in_its_config():
    rows = results.load()
    assert rows.keys() == set(results.NUM_SEEDS)
    for config in CONFIGS:
        lines = config.read_text().splitlines()
        assert lines[0] == f"# python -m fmnist_lightning fit --config {config.stem}"
        assert results.header(config.stem, rows[config.stem]) in lines


def saved_run(seconds, accuracy):
    return {
        "parameters": 11252,
        "epochs": 3,
        "fit_seconds": seconds,
        "validate": {"accuracy": accuracy},
        "test": {"accuracy": accuracy - 0.01, "ece": accuracy - 0.895},
    }


def test_summary_has_mean_and_standard_deviation_over_the_seeds():
    runs = [saved_run(10.0, 0.90), saved_run(21.0, 0.91), saved_run(20.0, 0.92)]
    assert results.summarize("smoke", {"runs": runs}) == {
        "config": "smoke",
        "parameters:": "11,252",
        "epochs:": "3",
        "`fit`:": "17 s",
        "validation %": "91.00 ± 1.00",
        "test %": "**90.00 ± 1.00**",
        "each seed": "89.00, 90.00, 91.00",
        "ECE %:": "1.50",
        "command": "`python -m fmnist_lightning fit --config smoke`",
    }
