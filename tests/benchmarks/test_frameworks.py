import json
from typing import Any

import frameworks


def test_table_is_that_of_the_saved_runs() -> None:
    text = frameworks.table(json.loads(frameworks.SAVED.read_text()))
    assert frameworks.MARKS.find(frameworks.PAGE) == text


def test_ratio_is_to_the_fastest_other_within_a_round() -> None:
    seconds = {"fmnist_lightning": 3, "compiled": 2, "Keras on TensorFlow": 5}
    seconds |= {"Keras on JAX": 4, "Flax on JAX": 6}
    runs: list[dict[str, Any]] = [
        {
            "section": "frameworks",
            "program": frameworks.PROGRAMS[name][0],
            "options": frameworks.PROGRAMS[name][1],
            "batch_size": batch_size,
            "epochs": [{"epoch": 99}, {"epoch": slow * each}],
        }
        for slow in (1, 2, 10)  # the machine is busy in some rounds
        for batch_size in frameworks.BATCH_SIZES
        for name, each in seconds.items()
    ]
    machine = {"cpu": "CPU", "cores": 2, "gpu": None, "python": "3", "versions": {}}
    text = frameworks.table({"runs": runs, "machine": machine, "frameworks": {"jax": "1"}})
    ratios = "0.75 (0.75 to 0.75) | 0.50 (0.50 to 0.50)"
    assert f"| 20 | 6.00 | 4.00 | 10.00 | 8.00 | 12.00 | {ratios} |" in text
