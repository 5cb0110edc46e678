"""A person with a browser of their own, as the tests of the web client know them."""

from __future__ import annotations

import re
from typing import Any, Final

from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    WebError,
    WebSocket,
    expect,
)

from tests.chat import PASSWORD
from tests.leaks import watch

PATIENCE_MS: Final = 15_000
"""How long a page may take for what must come."""

NO_SERVER: Final = (
    r"WebSocket connection to .* failed",
    r"net::ERR_(CONNECTION|EMPTY|SOCKET|NETWORK|INTERNET)\w+",
)
"""What a browser's console says where the server or the network is away."""

REFUSED: Final = r"status of (400|401|403|404|409|422|429)"
"""What it says where the server refused a request; that a person sees why is shown otherwise."""


class Troubles:
    """What went wrong in a browser, and what of it a test had to expect."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self._url = url
        self._noted: list[str] = []
        self._expected: list[str] = []
        context.on("weberror", self._web_error)
        context.on("console", self._console)
        context.on("request", self._request)
        context.on("dialog", self._dialog)
        context.on("page", lambda page: page.on("websocket", self._websocket))

    def expect(self, *patterns: str) -> None:
        """From the start to the end of the test, lines that hold one of these are no trouble."""
        self._expected += patterns

    @property
    def unexpected(self) -> list[str]:
        return [
            line for line in self._noted if not any(re.search(one, line) for one in self._expected)
        ]

    def _web_error(self, error: WebError) -> None:
        self._noted.append(f"uncaught: {error.error}")

    def _console(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self._noted.append(f"console: {line.text} ({line.location['url']})")

    def _request(self, request: Request) -> None:
        self._check(request.url)

    def _websocket(self, socket: WebSocket) -> None:
        self._check("http" + socket.url.removeprefix("ws"))

    def _dialog(self, dialog: Dialog) -> None:
        self._noted.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _check(self, requested: str) -> None:
        if not requested.startswith((f"{self._url}/", "data:", "blob:")):
            self._noted.append(f"asked elsewhere: {requested}")


class Visitor:
    """A person before a tab of their browser.

    What goes wrong in the browser is gathered in ``troubles``; the fixture `visitor` asks for it
    behind the test.
    """

    def __init__(self, context: BrowserContext, url: str, troubles: Troubles) -> None:
        self.context = context
        self.url = url
        self.troubles = troubles
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)

    def another_tab(self) -> Visitor:
        """The same browser, one tab more."""
        return Visitor(self.context, self.url, self.troubles)

    # -- coming and going ----------------------------------------------------------------------

    def enter(self, email: str, door: str = "/chat") -> None:
        """Open one of the pages and sign in by the form."""
        self.open(door)
        self.sign_in(email)

    def open(self, door: str = "/chat") -> None:
        self.page.goto(self.url + door)

    def sign_in(self, email: str, password: str = PASSWORD) -> None:
        self.fill_in(email, password)
        self.expect_connected()

    def fill_in(self, email: str, password: str = PASSWORD) -> None:
        """Send the form, whatever comes of it."""
        watch.keep({"password": password})
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password").fill(password)
        self.button("Sign in").click()

    def expect_form(self) -> None:
        expect(self.page.get_by_role("heading", name="Sign in")).to_be_visible()

    def expect_connected(self) -> None:
        expect(self.page.get_by_text("Connected", exact=True)).to_be_visible()

    @property
    def place(self) -> str:
        """The address in the address bar, from its path on."""
        return self.page.url.removeprefix(self.url)

    # -- people and groups ---------------------------------------------------------------------

    def list(self, name: str) -> Locator:
        """A list by its title: Conversations, Online, People found, Groups found, Members."""
        return self.page.get_by_role("list", name=name)

    def row(self, whom: str, *, among: str) -> Locator:
        """Somebody's line, or a group's, in one of the lists."""
        return self.list(among).get_by_role("button", name=re.compile(re.escape(whom)))

    def pick(self, whom: str, *, among: str) -> None:
        self.row(whom, among=among).click()
        self.expect_open(whom)

    def find(self, text: str) -> None:
        """Write into the box at the top of the sidebar."""
        self.page.get_by_role("searchbox", name="Filter, or find people and groups").fill(text)

    def expect_open(self, whom: str) -> None:
        """The conversation is open, and can be written in."""
        expect(self.page.get_by_role("heading", level=1, name=whom)).to_be_visible()
        expect(self.composer).to_be_visible()

    def badge(self, whom: str) -> Locator:
        """The number of unread messages on a conversation's line."""
        return self.row(whom, among="Conversations").locator(".badge")

    def expect_unread(self, whom: str, count: int) -> None:
        if count:
            expect(self.badge(whom)).to_have_text(f"{count} unread")
        else:
            expect(self.row(whom, among="Conversations")).to_be_visible()
            expect(self.badge(whom)).to_have_count(0)

    # -- writing and reading -------------------------------------------------------------------

    @property
    def composer(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def say(self, *texts: str) -> None:
        """Write these, and send each; whether they got anywhere is another matter."""
        for text in texts:
            watch.keep({"text": text})
            self.composer.fill(text)
            self.button("Send").click()
            expect(self.composer).to_have_value("")

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("log", name="Messages")

    def message(self, text: str) -> Locator:
        """The message that says exactly this."""
        said = self.page.get_by_text(text, exact=True)
        return self.log.locator(".message").filter(has=said)

    def expect_log(self, text: str) -> None:
        """The text stands somewhere in the log."""
        expect(self.log).to_contain_text(text)

    def expect_texts(self, *texts: str) -> None:
        """The log holds these messages, in this order, and no other."""
        expect(self.log.locator(".message .text")).to_have_text(list(texts))

    def expect_tick(self, text: str, *said: str) -> None:
        """The tick of one's own message says the last of these; on the way there, all of them."""
        tick = self.message(text).locator(".tick")
        for words in said:
            expect(tick).to_have_accessible_name(re.compile(re.escape(words)))

    # -- attention -----------------------------------------------------------------------------

    def look_away(self) -> None:
        """Turn to another window: the page is hidden, and goes on."""
        self._show("hidden")

    def look_back(self) -> None:
        self._show("visible")

    def _show(self, state: str) -> None:
        self.page.evaluate(
            """value => {
              Object.defineProperty(document, "visibilityState", { value, configurable: true });
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            state,
        )

    # -- the browser's memory ------------------------------------------------------------------

    def token(self) -> str:
        """The token this tab is signed in with."""
        return str(self.page.evaluate("sessionStorage.getItem('chatd.token')"))

    def kept(self) -> dict[str, Any]:
        """Everything in the browser's memory of this place, by name."""
        return dict(self.page.evaluate("({ ...localStorage, ...sessionStorage })"))
