"""A browser for tests: the one that FUSEBENCH_BROWSER names, which then must be there; else
`chromium` or `chromium-headless-shell`, and where there is none the tests are skipped."""

import os
import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-headless-shell")


def lacking(reason):
    """Skips a test; or fails it, where a browser was asked for by name."""
    (pytest.fail if os.environ.get("FUSEBENCH_BROWSER") else pytest.skip)(reason)


@contextmanager
def started():
    """A browser that has shown a page."""
    try:
        from playwright import sync_api as api
    except ImportError:
        lacking("playwright is not installed")
    named = os.environ.get("FUSEBENCH_BROWSER")
    refused = []
    with api.sync_playwright() as driver:
        for path in filter(None, map(shutil.which, [named] if named else NAMES)):
            try:
                found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
                blank = found.new_page()
                blank.goto("data:text/html,<title>here</title>")
                assert blank.title() == "here"
                blank.close()
            except api.Error as error:
                refused.append(f"{path}: {str(error).splitlines()[0]}")
                continue
            yield found
            found.close()
            return
    lacking("; ".join(refused) or f"no browser: {named or ' nor '.join(NAMES)} is not there")


@contextmanager
def opened(browser, address, width=1400, site=None, **more):
    """The page; at the end nothing must have been asked for, and nothing said on the console.

    site: where all that it may ask for lies; without one it may not ask for anything.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, **more)
    page, heard = context.new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda asked: None if may(asked.url) else heard.append(asked.url))
    page.on("requestfailed", lambda asked: heard.append(f"failed: {asked.url}"))

    def may(url):
        return url.startswith(site) if site else url.partition("#")[0] == address

    page.goto(address)
    yield page
    assert heard == []
    context.close()


def is_dark(page):
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 300
