"""Memory and open files must not grow over a long run or many photos."""

import os
import statistics
import time
from pathlib import Path

import psutil
import pytest
from conftest import TINY
from lightning.pytorch import Callback
from PIL import Image
from processes import start
from samples import photo

MIB = 2**20


def private_memory(pid):
    """The memory of a process and its workers in bytes; 0 if one of them has just ended."""
    try:
        process = psutil.Process(pid)
        parts = [each.memory_info() for each in (process, *process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0
    return sum(part.rss - part.shared for part in parts)


def sample_memory(process):
    """The memory of a process, ten times a second until its end."""
    pid, sizes = process.process.pid, []
    while process.process.exitcode is None:
        sizes.append(private_memory(pid))
        time.sleep(0.1)
    return sizes


@pytest.mark.fault("endurance")
@pytest.mark.slow
def test_memory_is_constant_over_10000_photos(fit, tmp_path):
    run_dir = fit()
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(10_000):
        path = folder / f"{number:05}.png"
        if number % 100 == 50:
            photo().save(path)  # whose background must be segmented
        elif number < 100:
            Image.new("L", (28, 28), number).save(path)
        else:
            path.hardlink_to(folder / f"{number % 100 or 1:05}.png")
    process = start("predict", "--ckpt_path", "best.ckpt", "--photos", "many")
    sizes = sample_memory(process)
    assert process.process.exitcode == 0, process.output.read_text()
    (predictions,) = (run_dir / "photos").glob("*/photos.csv")
    assert len(predictions.read_text().splitlines()) == 10_001
    assert len(list(predictions.parent.glob("photos-*.png"))) == 250
    tenth = len(sizes) // 10
    early, late = (
        statistics.median(part) for part in (sizes[tenth : 2 * tenth], sizes[-2 * tenth :])
    )
    assert late - early < 30 * MIB, [each // MIB for each in sizes[::tenth]]


class ResourceRecorder(Callback):
    """Writes memory and number of open files to a file after each epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        with Path("resources.txt").open("a") as stream:
            print(private_memory(os.getpid()), psutil.Process().num_fds(), file=stream)


@pytest.mark.fault("endurance")
@pytest.mark.slow
def test_memory_and_open_files_are_constant_over_200_epochs(run):
    process = start(
        *("fit", "--config", "smoke", *TINY, "--trainer.max_epochs=200"),
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.callbacks+=test_load.ResourceRecorder",
    )
    assert process.wait(400) == 0, process.output.read_text()
    lines = [line.split() for line in Path("resources.txt").read_text().splitlines()]
    memory, files = zip(*((int(each), int(other)) for each, other in lines), strict=True)
    assert len(memory) == 200
    assert statistics.median(files[-50:]) <= statistics.median(files[:50])
    early, late = (statistics.median(part) for part in (memory[40:60], memory[-20:]))
    assert late - early < 10 * MIB, [each // MIB for each in memory[::10]]
