import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Run

from fmnist_lightning import create_trainer
from fmnist_lightning.internals import threads


@pytest.fixture(autouse=True)
def _default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads are allowed, and PyTorch has its own number again after the test."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "max_num_threads", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux")
def test_busy_program_takes_a_cpu(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        time.sleep(0.5)
        before = threads._cpu_times()[cpu]
        time.sleep(0.3)
        after = threads._cpu_times()[cpu]
    finally:
        process.kill()
        process.wait()
    assert after[0] - before[0] >= 0.9 * (after[1] - before[1]) > 10


def fake_times(*busy: float) -> Callable[[], dict[int, tuple[int, int]]]:
    """Two CPUs, of which so many are busy from one look to the next."""
    values = iter(busy)
    state = {0: (0, 0), 1: (0, 0)}
    calls = 0

    def times() -> dict[int, tuple[int, int]]:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            part = next(values) / 2
            for cpu, (used, total) in state.items():
                state[cpu] = used + round(100 * part), total + 100
        return dict(state)

    return times


@pytest.mark.parametrize(
    ("busy", "free"),
    [((0.1,), 2), ((0.4,), 2), ((1, 0.9, 1, 1), 1), ((2, 2, 2, 2), 1), ((1.5, 2, 0.2), 2)],
    ids=["idle", "nearly idle", "one busy", "all busy", "a burst"],
)
def test_threads_are_those_that_are_free(
    busy: tuple[float, ...], free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_affinity", lambda: {0, 1})
    monkeypatch.setattr(threads, "_cpu_times", fake_times(*busy))
    monkeypatch.setattr(threads, "WINDOW", 0)
    assert threads.num_free_cpus(2) == free


def test_run_records_its_threads_and_a_resumed_run_keeps_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "num_free_cpus", lambda enough: 1)
    fit = ("fit", *TINY, "--model.lr_schedule", "constant")
    code, out, err = run(*fit, "--trainer.max_epochs", "1")
    assert code == 0, err
    assert "Using 1 of 2 CPU threads, because other programs are busy" in out
    assert torch.get_num_threads() == 1
    (run_dir,) = Path("runs").iterdir()
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["num_threads"] == 1

    monkeypatch.setattr(threads, "num_free_cpus", lambda enough: 2)
    code, out, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert code == 0, err
    assert torch.get_num_threads() == 1
    assert "num_threads" not in out
    for command in ("test", "validate"):
        code, out, err = run(command, "--ckpt_path", "best.ckpt")
        assert code == 0, err
        assert torch.get_num_threads() == 2
        assert "threads" not in out
    assert run("test", "--ckpt_path", "best.ckpt", "--num_threads", "1")[0] == 0
    assert torch.get_num_threads() == 1
    code, _, err = run("fit", "--num_threads", "0")
    assert code == 1
    assert "num_threads must be at least 1, not 0" in err


def test_script_and_environment_choose_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "num_free_cpus", lambda enough: 1)
    create_trainer(fast_dev_run=True, accelerator="cpu", num_threads=2)
    assert torch.get_num_threads() == 2
    create_trainer(fast_dev_run=True, accelerator="cpu")
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # PyTorch follows it
    assert threads.set_num_threads() == 2


@pytest.mark.parametrize(
    ("files", "groups", "quota"),
    [
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"cpu.max": "max 100000"}, "0::/", float("inf")),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, "0::/a/b", 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/", 1e9),
        (
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            "4:memory:/x\n2:cpu,cpuacct:/docker/gone",
            0.5,
        ),
    ],
    ids=["version 2", "no limit", "of a parent", "no limit, version 1", "version 1"],
)
def test_quota_is_that_of_the_control_groups(
    files: dict[str, str],
    groups: str,
    quota: float,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    read = Path.read_text
    own = Path("/proc/self/cgroup")
    monkeypatch.setattr(Path, "read_text", lambda path: groups if path == own else read(path))
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    assert min(threads.cpu_quota(), 1e9) == min(quota, 1e9)


def test_starved_run_says_so_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "num_free_cpus", lambda enough: 2)
    line = "Other processes are busy, and the 2 threads of this run wait for each other"
    for cpu_seconds, interrupts, count in ((7, 2000, 1), (19, 2000, 0), (7, 100, 0)):
        clock = iter(range(100))
        monkeypatch.setattr(
            threads,
            "_usage",
            lambda clock=clock, cpu_seconds=cpu_seconds, interrupts=interrupts: (
                10.0 * (now := next(clock)),
                cpu_seconds * now,
                interrupts * now,
            ),
        )
        code, out, err = run("fit", *TINY, "--trainer.max_epochs", "3")
        assert code == 0, err
        assert out.count(line) == count


FAULTS = """
import resource
import torch
from fmnist_lightning.internals.threads import set_malloc_thresholds

def count() -> int:
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensors = [torch.ones(2_000_000) for _ in range(10)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(count())
set_malloc_thresholds()
print(count())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    output = subprocess.check_output([sys.executable, "-c", FAULTS])
    before, after = map(int, output.split())
    assert after < 100 < before
