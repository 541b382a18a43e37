import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Callback
from samples import tiny_data

from fmnist_lightning import FashionClassifier, create_trainer

FAULTS = """
import resource
import torch
from fmnist_lightning.internals.process import prepare_memory

def count() -> int:
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        [torch.ones(2_000_000) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(count())
prepare_memory()
print(count())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_used_again_without_page_faults():
    output = subprocess.check_output([sys.executable, "-c", FAULTS])
    before, after = map(int, output.split())
    assert after < 100 < before


class CountsSearches(Callback):
    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.searches = []

    def on_train_start(self, trainer, pl_module):
        def search():
            self.searches.append(trainer.global_step)
            return 0

        self.monkeypatch.setattr(torch.cuda, "_device_count_nvml", search)


@pytest.mark.usefixtures("data_dir")
def test_steps_of_adam_do_not_search_for_a_driver(monkeypatch):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # as Lightning sets it
    callback = CountsSearches(monkeypatch)
    trainer = create_trainer(callbacks=callback, max_epochs=1, logger=False)
    trainer.fit(FashionClassifier(), datamodule=tiny_data())
    assert trainer.global_step == 10
    assert callback.searches == []
