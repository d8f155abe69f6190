"""A real browser without a window: Debian's Chromium, driven by Playwright. What it complains about, and what it asks other hosts for, fails a test."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """One process of Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "chromium is missing: tests/run clients installs it"
    # Its sandbox does not run as root, which tests in a container do; it opens nothing but pages of our own. Whatever is not here is nowhere.
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-background-networking"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        process = playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield process
        finally:
            process.close()


@dataclass
class Watched:
    """A page, and what went on beside it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


@contextlib.contextmanager
def watched(process: Browser, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Watched]:
    """A page of a fresh profile. At its end nothing may have been complained about."""
    context = process.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    seen = Watched(page)
    page.on("console", lambda message: seen.complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (seen.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).netloc))
    try:
        yield seen
    finally:
        context.close()
    assert seen.complaints == []
