"""Lower bounds of the dependencies, and the lock with its hashes."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCK = (Path(__file__).parents[1] / "requirements.lock").read_text()


def requirements(*extras: str) -> list[Requirement]:
    """The dependencies of the project and of its extras."""
    declared = map(Requirement, importlib.metadata.requires("fmnist-lightning") or ())
    return [
        each
        for each in declared
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def locked() -> dict[str, list[tuple[Version, list[str]]]]:
    """The locked releases by name, each with its hashes."""
    found: dict[str, list[tuple[Version, list[str]]]] = {}
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        head, *hashes = [line.strip().rstrip(" \\") for line in entry.splitlines()]
        requirement = Requirement(head.removesuffix("\\"))
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        found.setdefault(requirement.name, []).append((Version(pin.version), hashes))
    return found


def test_lock_fits_pyproject() -> None:
    found = locked()
    for requirement in requirements("dev", "photos", "export"):
        for version, _ in found[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(version), f"run `make lock`: {requirement}"


def test_lock_has_hashes_and_no_urls() -> None:
    for name, entries in locked().items():
        for _, hashes in entries:
            assert hashes, name
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name
    assert "://" not in LOCK


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("lightning", "2.6.3"),  # a malicious upload
        ("lightning", "2.6.5"),  # CVE-2026-58659
        ("torch", "2.5.1"),  # CVE-2025-32434
        ("tensorboard", "2.20.0"),  # fails beside setuptools 82
    ],
)
def test_known_bad_releases_are_excluded(name: str, version: str) -> None:
    (requirement,) = (each for each in requirements() if each.name == name)
    assert not requirement.specifier.contains(version)
