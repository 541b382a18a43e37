from typing import Any

import frameworks
from speed_tables import Times


def test_ratio_is_to_the_fastest_other_within_a_round() -> None:
    seconds = {"fmnist_lightning": 3, "compiled": 2, "Keras on TensorFlow": 5}
    seconds |= {"Keras on JAX": 4, "Flax on JAX": 6}
    runs: list[dict[str, Any]] = [
        {
            "program": program.split()[0],
            "options": program.split()[1:],
            "batch_size": batch_size,
            "epochs": [{"epoch": 99}, {"epoch": slow * seconds[name]}],
        }
        for slow in (1, 2, 10)  # the machine is busy in some rounds
        for batch_size in frameworks.BATCH_SIZES
        for name, program in frameworks.PROGRAMS.items()
    ]
    ratios = "0.75 (0.75 to 0.75) | 0.50 (0.50 to 0.50)"
    text = frameworks.table(Times(runs))
    assert f"| 20 | 6.00 | 4.00 | 10.00 | 8.00 | 12.00 | {ratios} |" in text
