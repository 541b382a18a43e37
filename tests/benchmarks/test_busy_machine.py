import json
import statistics

import busy_machine


def test_saved_runs_are_within_the_limits():
    seconds = json.loads(busy_machine.SAVED.read_text())["seconds"]
    for name in list(busy_machine.COMMANDS)[:2]:
        medians = [statistics.median(seconds[name][str(num)]) for num in busy_machine.NUM_BUSY]
        for num, limit in busy_machine.LIMITS.items():
            assert medians[num] / medians[0] <= limit
