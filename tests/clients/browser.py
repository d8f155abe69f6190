"""A real Chromium, for the pages: Debian's, without a network but this machine's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Page, Request, sync_playwright

# Whatever is not here is nowhere.
FLAGS = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-background-networking"]


@dataclass
class Seen:
    """What a page did that it should not do."""

    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and url.hostname != "127.0.0.1":
            self.strangers.append(request.url)


@contextmanager
def page(width: int, height: int, dark: bool = False) -> Iterator[Page]:
    """A page in a browser of its own. At its end: no error was logged, and nobody else was asked for anything."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "chromium is missing: install the Debian package chromium"
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    seen = Seen()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        try:
            made = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
            seen.watch(made)
            yield made
        finally:
            browser.close()
    assert not seen.errors, seen.errors
    assert not seen.strangers, seen.strangers
