"""Lower bounds of the dependencies, and the lock with its hashes."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = (Path(__file__).parents[1] / "requirements.lock").read_text()
DECLARED = [Requirement(each) for each in importlib.metadata.requires("fmnist-lightning") or ()]


def test_lock_fits_pyproject_and_has_hashes():
    versions = {}
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        head, *hashes = entry.splitlines()
        match = re.match(r"([\w.-]+)==([\w.+]+)", head)
        assert match, head
        versions.setdefault(match[1], []).append(match[2])
        assert hashes, head
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}( \\)?", each) for each in hashes)
    for requirement in DECLARED:
        marker = requirement.marker
        extras = ("", "dev", "photos", "export")
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            for version in versions[canonicalize_name(requirement.name)]:
                assert requirement.specifier.contains(version), f"run `make lock`: {requirement}"


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("lightning", "2.6.3"),  # a malicious upload
        ("lightning", "2.6.5"),  # CVE-2026-58659
        ("torch", "2.5.1"),  # CVE-2025-32434
        ("tensorboard", "2.20.0"),  # fails beside setuptools 82
    ],
)
def test_known_bad_releases_are_excluded(name, version):
    requirement = next(each for each in DECLARED if each.name == name)
    assert not requirement.specifier.contains(version)
