"""TensorBoard on a real run, as a browser shows it."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsers import expect, open_browser
from conftest import Run

FIGURES = [
    *("confusion matrix", "reliability diagram", "most confident misclassified"),
    *("least confident correct", "first-layer filters", "feature maps"),
]


@pytest.fixture
def address(fit: Callable[..., Path], run: Run) -> Iterator[str]:
    """Where TensorBoard shows a run of one epoch and its test."""
    fit("--trainer.max_epochs", "1")
    assert run("test", "--ckpt_path", "best.ckpt")[0] == 0
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", "runs", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        found = (re.search(r"http://localhost:\d+", line) for line in server.stderr)
        yield next(match[0] for match in found if match)
        server.kill()


def test_every_tab_renders(address: str) -> None:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        page.set_default_timeout(40_000)

        def show(tab: str) -> None:
            page.goto(f"{address}/#{tab}")
            page.reload()

        def sees(text: str) -> None:
            expect(page.get_by_text(text, exact=True).first).to_be_visible()

        show("custom_scalars")
        for title in ("training and validation", "loss", "accuracy", "per class, validation"):
            sees(title)
        expect(page.get_by_text("Matches (2)")).to_have_count(2)  # two curves in each
        expect(page.get_by_text("Matches (10)")).to_have_count(2)  # a curve for each class

        show("images")
        for stage in ("test", "val"):
            heading = page.locator("tf-category-paginated-view .heading").filter(has_text=stage)
            heading.wait_for()
            if heading.get_attribute("open-button") is None:
                heading.click()
        cards = page.locator("tf-image-loader")
        tags = [f"{stage}/{name}" for stage in ("test", "val") for name in FIGURES]
        expect(cards).to_have_count(len(tags) + 1)  # and the training images
        assert {*tags, "training images"} == set(
            cards.evaluate_all("cards => cards.map(card => card.tag)")
        )
        for card in cards.all():
            card.scroll_into_view_if_needed()
            width = card.locator("img").evaluate(
                "image => image.decode().then(() => image.naturalWidth)"
            )
            assert width > 300

        show("text")
        expect(page.get_by_text("split_seed: 0").first).to_be_attached()

        show("hparams")
        for title in ("network", "val/loss", "test/acc"):
            expect(page.get_by_text(title, exact=True).first).to_be_attached()
        expect(page.get_by_text("none", exact=True).first).to_be_visible()  # augmentation

        show("projector")
        projector = page.frame_locator("main iframe").frame_locator("iframe")
        expect(projector.get_by_text(re.compile("Points: (120|105)"))).to_be_visible()
        expect(projector.locator("#scatter canvas").first).to_be_visible()
        logs = page.request.get(f"{address}/data/plugin/projector/runs").json()
        assert {log.partition("/")[2] for log in logs} == {"projector/val", "projector/test"}
