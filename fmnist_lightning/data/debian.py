"""Reads a file of a Debian package, which apt-get downloads: no root, no installation."""

import logging
import shutil
import subprocess
from pathlib import Path

APT_TIMEOUT = 180.0  # seconds for one command

log = logging.getLogger(__name__)


def read_from_package(package: str, folder: Path, scratch: Path, name: str) -> bytes:
    """Reads ``folder/name`` of a package, which is extracted once below ``scratch``, or OSError."""
    root = scratch / "root"
    if not root.exists():
        _extract(package, scratch, root)
    return (root / folder.relative_to("/") / name).read_bytes()


def _extract(package: str, scratch: Path, root: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise OSError("this system has no apt-get")
    log.info("Downloading the package %s with apt-get", package)
    lists, cache = scratch / "lists", scratch / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    apt += ["-o", "APT::Sandbox::User=root"]  # as root, apt's own user can't write to the folder
    _run([*apt, "update"], scratch)
    _run([*apt, "download", package], scratch)
    archive = next(scratch.glob(f"{package}_*.deb"), None)
    if archive is None:
        raise OSError("apt-get downloaded nothing")
    _run(["dpkg-deb", "-x", str(archive), str(root)], scratch)


def _run(command: list[str], cwd: Path) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=APT_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} timed out after {APT_TIMEOUT:g} s") from error
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise OSError(f"{command[0]}: {reason}")
