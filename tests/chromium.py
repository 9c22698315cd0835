"""A headless Chromium for pages, where there is one: its own of playwright's, or the system's."""

import contextlib
import shutil
from pathlib import Path

import pytest


@contextlib.contextmanager
def opened(path, width=1200, height=800):
    """The page of the file at `path`, when it is loaded; skips the test where no Chromium is found.

    Fails if the page asks for anything but itself, or if a script of it fails.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no page is opened")
    with playwright.sync_playwright() as started:
        names = ("chromium", "chromium-browser", "google-chrome")
        browsers = [started.chromium.executable_path, *(shutil.which(name) for name in names)]
        browser = next((name for name in browsers if name and Path(name).is_file()), None)
        if browser is None:
            pytest.skip("no Chromium is found: no page is opened (playwright install chromium)")
        # A container's root has no sandbox, and a machine without a screen draws WebGL in software.
        chromium = started.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        try:
            page = chromium.new_page(viewport={"width": width, "height": height})
            asked, failed = [], []
            page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
            page.on("pageerror", lambda error: failed.append(str(error)))
            page.goto(f"file://{Path(path).resolve()}")
            yield page
            assert not failed
            assert set(asked) <= {"file", "data", "blob"}
            assert asked.count("file") == 1
        finally:
            chromium.close()
