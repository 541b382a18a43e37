"""The wheel and the source distribution."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from setuptools import build_meta

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fmnist_lightning"
CONFIGS = {path.name for path in (ROOT / "configs").iterdir()}


def run(*args, site):
    """Runs Python with the packages in a folder before all others."""
    done = subprocess.run(
        [sys.executable, *args],
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of setuptools
def test_wheel_of_the_source_distribution_works_in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    name = build_meta.build_sdist(str(tmp_path))
    with tarfile.open(tmp_path / name) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / name.removesuffix(".tar.gz")
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=False)
    for path in tracked.stdout.splitlines():
        assert path.startswith(".") or (source / path).exists()

    monkeypatch.chdir(source)
    wheel = tmp_path / build_meta.build_wheel(str(tmp_path))
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    installed = {path.relative_to(site) for path in (site / "fmnist_lightning").rglob("*.*")}
    modules = {path.relative_to(ROOT) for path in PACKAGE.rglob("*.py")}
    configs = {Path("fmnist_lightning", "configs", name) for name in CONFIGS}
    others = {Path("fmnist_lightning/py.typed")}
    for part in ("weights", "demo/examples"):
        others |= {path.relative_to(ROOT) for path in (PACKAGE / part).iterdir()}
    assert installed == modules | configs | others

    monkeypatch.chdir(site.parent)  # where no other copy of the package is found
    where = run("-c", "import fmnist_lightning as f; print(f.__file__, f.__version__)", site=site)
    assert where.split()[0] == str(site / "fmnist_lightning" / "__init__.py")
    command = ("-m", "fmnist_lightning")
    assert run(*command, "--version", site=site) == f"fmnist_lightning {where.split()[1]}\n"
    assert "lr: 0.04" in run(*command, "fit", "--config", "article", "--print_config", site=site)
    Image.new("L", (28, 28)).save("image.png")
    out = run(*command, "predict", "--ckpt_path", "tiny", "--photos", "image.png", site=site)
    assert "tiny: of this package, ArticleCNN" in out
