import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from conftest import TINY

from fmnist_lightning import create_trainer
from fmnist_lightning.internals import threads

max_num_threads = threads.max_num_threads.__wrapped__  # without its cache


@pytest.fixture(autouse=True)
def _default(monkeypatch):
    """Two threads are allowed, and PyTorch has its own number again after the test."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "max_num_threads", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


def test_busy_program_takes_a_cpu():
    num_cpus = os.cpu_count() or 1
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        assert threads.num_free_cpus(num_cpus) <= max(1, num_cpus - 1)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("percents", "num_free"),
    [
        ([(10, 0)], 2),
        ([(20, 20)], 2),
        ([(100, 0), (0, 90), (100, 0), (50, 50)], 1),
        ([(100, 100)] * 4, 1),
        ([(50, 100), (100, 100), (10, 10)], 2),
    ],
    ids=["idle", "nearly idle", "one busy", "all busy", "a burst"],
)
def test_threads_are_those_that_are_free(percents, num_free, monkeypatch):
    windows = iter(percents)
    # The idle CPU between the two is not one of this process.
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2}, raising=False)
    monkeypatch.setattr(
        psutil, "cpu_percent", lambda interval, percpu: [(pair := next(windows))[0], 0, pair[1]]
    )
    assert threads.num_free_cpus(2) == num_free
    assert next(windows, None) is None  # all are watched, but none after enough are free


@pytest.mark.parametrize("percents", [None, [0.0]], ids=["nothing is known", "fewer CPUs"])
def test_container_that_hides_cpus_stops_nobody(percents, monkeypatch):
    def cpu_percent(interval, percpu):
        if percents is None:
            raise PermissionError("/proc/stat")
        return percents

    monkeypatch.setattr(psutil, "cpu_percent", cpu_percent)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 7}, raising=False)
    assert threads.set_num_threads() == 2


def test_run_records_its_threads_and_a_resumed_run_keeps_them(run, monkeypatch):
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
    code, out, err = run("test", "--ckpt_path", "best.ckpt")
    assert code == 0, err
    assert torch.get_num_threads() == 2
    assert "threads" not in out
    assert run("test", "--ckpt_path", "best.ckpt", "--num_threads", "1")[0] == 0
    assert torch.get_num_threads() == 1
    code, _, err = run("fit", "--num_threads", "0")
    assert code == 1
    assert "num_threads must be at least 1, not 0" in err


def test_script_and_environment_choose_the_threads(monkeypatch):
    monkeypatch.setattr(threads, "num_free_cpus", lambda enough: 1)
    create_trainer(fast_dev_run=True, accelerator="cpu", num_threads=2)
    assert torch.get_num_threads() == 2
    create_trainer(fast_dev_run=True, accelerator="cpu")
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # PyTorch follows it
    assert threads.set_num_threads() == 2


@pytest.mark.parametrize(
    ("text", "num"),
    [("250000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 4), (None, 4)],
    ids=["docker --cpus 2.5", "docker --cpus 0.5", "no limit", "no container"],
)
def test_quota_of_a_container_limits_the_threads(text, num, monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "CPU_MAX", tmp_path / "cpu.max")
    torch.set_num_threads(4)
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert max_num_threads() == num
