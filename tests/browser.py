"""A headless Chromium for tests of the report; the system's own, so that none is downloaded."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def chromium() -> str:
    """Return where Chromium is, or skip the test."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None and os.environ.get("XLENS_REQUIRE_BROWSER") == "1":
        pytest.fail("XLENS_REQUIRE_BROWSER=1, and no Chromium is installed")
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    return found


class Tab:
    """One page, with everything that went wrong or went out of it."""

    def __init__(self, page) -> None:
        self.page = page
        self.console: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda fault: self.console.append(f"error: {fault}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: (self.console.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _note(self, kind: str, text: str) -> None:
        # Reading canvases back is this test's own doing.
        if "willReadFrequently" not in text:
            self.console.append(f"{kind}: {text}")

    def wait(self, expression: str, seconds: float = 5.0) -> None:
        """Wait until an expression is true. (Playwright's own way evaluates strings, which the page forbids.)"""
        end = time.perf_counter() + seconds
        while not self.page.evaluate(expression):
            assert time.perf_counter() < end, f"not true within {seconds} s: {expression}"
            time.sleep(0.02)

    def pixels(self, selector: str) -> list[int]:
        """Return the bytes of a canvas."""
        script = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        return self.page.locator(selector).first.evaluate(script)

    def check_quiet(self) -> None:
        """Fail if the console said anything, or anything but the file itself was asked for."""
        assert self.console == []
        outside = [url for url in self.requests if not url.startswith(("file:", "data:", "about:"))]
        assert outside == []
        assert len([url for url in self.requests if url.startswith("file:")]) == 1


@contextmanager
def browser() -> Iterator[object]:
    """Start Chromium once."""
    driving = pytest.importorskip("playwright.sync_api")

    path = chromium()
    with driving.sync_playwright() as driver:
        # The sandbox needs rights that a container does not give; only our own pages are opened.
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(started, path: Path, **options) -> Iterator[Tab]:
    """Open a file in a fresh context."""
    context = started.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    tab = Tab(context.new_page())
    tab.page.goto(path.as_uri())
    yield tab
    context.close()
