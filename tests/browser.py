"""A real browser for tests of the page: Debian's Chromium, installed where that can be done."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debian import install
from playwright.sync_api import Browser, Page, Playwright

PACKAGE = "chromium"
DRAWN = "() => [...document.querySelectorAll('.chart')].every((c) => c.querySelector('svg'))"


def missing() -> str:
    """Why there is no Chromium; empty where there is one, which this installs as root."""
    return install(PACKAGE, PACKAGE, "fonts-dejavu-core")


def launch(playwright: Playwright) -> Browser:
    """Chromium without a window."""
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # which root cannot have
    return playwright.chromium.launch(executable_path=shutil.which(PACKAGE), args=sandbox)


@dataclass
class Opened:
    """A page, with all that it asked for and said."""

    page: Page
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def texts(self, selector: str) -> list[str]:
        """What each of the elements shows."""
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def column(self, table: str, title: str) -> list[str]:
        """The texts of a table's column, from the top."""
        heads = self.page.locator(f"{table} thead th").all()
        names = [head.evaluate("(element) => element.textContent") for head in heads]
        return self.texts(f"{table} tbody tr > :nth-child({names.index(title) + 1})")

    def drawn(self) -> None:
        """Wait until every chart is."""
        self.page.wait_for_function(DRAWN)


@contextmanager
def opened(browser: Browser, file: Path, hash: str = "", **context: Any) -> Iterator[Opened]:
    """The page in a window of its own, from which nothing gets out."""
    chosen: dict[str, Any] = {"viewport": {"width": 1400, "height": 900}, "offline": True} | context
    window = browser.new_context(**chosen)
    page = window.new_page()
    page.set_default_timeout(20_000)
    found = Opened(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("console", lambda message: found.said.append(message.text))
    page.on("pageerror", lambda error: found.said.append(str(error)))
    page.goto(f"{file.as_uri()}{hash}")
    try:
        yield found
    finally:
        window.close()
