"""The page of ``demo``, as a browser shows it."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from processes import start
from samples import photo

pytest.importorskip("gradio", reason="gradio is not installed: pip install -e '.[demo]'")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: make browser"
)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if CHROMIUM is None:
    pytest.skip("no Chromium is installed: make browser", allow_module_level=True)
expect = playwright.expect
expect.set_options(timeout=40_000)


@pytest.fixture
def address(fit):
    """Where ``demo`` serves a network until Ctrl+C."""
    fit("--trainer.max_epochs", "1")
    server = start("demo", "--ckpt_path", "best.ckpt")
    server.wait_for("Running on local URL")
    yield re.findall(r"http://127.0.0.1:\d+", server.output.read_text())[0]
    os.kill(server.process.pid, signal.SIGINT)
    assert server.wait() in (0, 130)  # 130 where it is still starting


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_photo_is_classified_on_the_page(address, width, tmp_path):
    photo().save(tmp_path / "photo.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    with playwright.sync_playwright() as browsers:
        # It may be root's, without a GPU, and need not call home.
        args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=args)
        page = browser.new_page(viewport={"width": width, "height": 900})
        requests = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        expect(page.get_by_text("was not trained for photos")).to_be_visible()
        expect(page.get_by_text("gets one of 10 classes: T-shirt/top, Trouser")).to_be_visible()
        expect(page.locator(".gallery-item")).to_have_count(10)

        page.set_input_files("input[type=file]", tmp_path / "photo.jpg")
        expect(page.get_by_test_id("label-output-value")).to_be_visible()
        box = page.get_by_test_id("label-output-value").bounding_box()
        assert box["y"] + box["height"] < 800  # seen without scrolling, on a phone too
        expect(page.locator(".matplotlib img")).to_have_count(0)
        page.get_by_text("Feature maps of the network").click()
        expect(page.locator(".matplotlib img")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width

        page.get_by_label("Remove Image").click()
        expect(page.locator(".matplotlib img")).to_have_count(0)

        page.set_input_files("input[type=file]", tmp_path / "text.jpg")
        expect(page.get_by_text("cannot identify image file").first).to_be_visible()

        page.locator(".gallery-item").first.click()
        expect(page.locator(".matplotlib img")).to_be_visible()
        assert all(url.startswith((address, "blob:", "data:")) for url in requests)


def test_page_is_served_to_this_machine_only(address):
    port = f":{int(address.rpartition(':')[2]):04X}"
    addresses = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()]
    listening = [each.partition(":")[0] for each in addresses if each.endswith(port)]
    assert set(listening) == {"0100007F"}  # 127.0.0.1
