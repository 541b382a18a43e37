"""A real browser without a window. Tests that import this are skipped where there is none."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

sync_api: Any = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: make browser"
)
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if BROWSER is None:
    pytest.skip("no Chromium is installed: make browser", allow_module_level=True)
QUIET = [  # it may be root's, without a GPU, and need not call home
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
expect = sync_api.expect


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium, as Playwright controls it."""
    expect.set_options(timeout=40_000)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield browser
        browser.close()
