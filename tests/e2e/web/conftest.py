"""A real Chromium, a real server, and the people who meet there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

from tests.e2e.conftest import MakeServer
from tests.e2e.server import Server
from tests.e2e.web.account import Account
from tests.e2e.web.modules import Modules
from tests.e2e.web.visitor import PATIENCE_MS, Troubles, Visitor

WINDOWLESS = ("chromium-headless-shell",)
WHOLE = ("chromium", "chromium-browser", "google-chrome")

MakeVisitor = Callable[..., Visitor]
MakeAccount = Callable[[str], Account]


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def chromium(playwright: Playwright, full: bool) -> Iterator[Browser]:
    """The same browser with or without what draws windows, which takes a third of its time."""
    commands = WHOLE + WINDOWLESS if full else WINDOWLESS + WHOLE
    path = os.environ.get("CHATD_TEST_CHROMIUM") or next(
        found for command in commands if (found := shutil.which(command))
    )
    browser = playwright.chromium.launch(
        executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
    )
    yield browser
    browser.close()


@pytest.fixture
def environment() -> dict[str, str]:
    """Settings for the server; a test overrides it to have others."""
    return {}


@pytest.fixture
def server(make_server: MakeServer, environment: dict[str, str]) -> Server:
    """A running server."""
    running = make_server(environment=environment)
    running.start()
    return running


@pytest.fixture
def url(server: Server) -> str:
    return server.url


@pytest.fixture
def visitor(chromium: Browser, url: str) -> Iterator[MakeVisitor]:
    """Makes people, each with a browser of their own, in which nothing unexpected goes wrong.

    ``visitor(*expected, **options)``: patterns of troubles that belong to the test, and options of
    the browser's context (``viewport``, ``color_scheme`` …).
    """
    visitors: list[Visitor] = []

    def make(*expected: str, **options: Any) -> Visitor:
        context = chromium.new_context(**options)
        troubles = Troubles(context, url)
        troubles.expect(*expected)
        visitors.append(Visitor(context, url, troubles))
        return visitors[-1]

    yield make
    unexpected = [one.troubles.unexpected for one in visitors]
    for one in visitors:
        one.context.close()
    assert unexpected == [[] for _ in visitors]


@pytest.fixture
def account(url: str) -> MakeAccount:
    """Signs people in over REST: they are off line, and have no browser."""
    return lambda email: Account(url, email)


@pytest.fixture(scope="module")
def modules(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modules]:
    server = Server(tmp_path_factory.mktemp("modules"))
    # Neither UTC nor without summer time, so that a day is not always 24 hours.
    context = chromium.new_context(locale="en-GB", timezone_id="Europe/Berlin")
    page = context.new_page()
    page.goto(f"{server.start()}/chat")
    yield Modules(page)
    context.close()
    server.close()
