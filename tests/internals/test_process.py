import subprocess
import sys

import pytest

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
