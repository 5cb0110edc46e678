"""What people see: Swagger UI and the web client, in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.chat import PASSWORD
from tests.e2e.conftest import MakeServer

pytestmark = pytest.mark.browser

COMMANDS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    path = os.environ.get("CHATD_TEST_CHROMIUM") or next(
        found for command in COMMANDS if (found := shutil.which(command))
    )
    browser = playwright.chromium.launch(
        executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
    )
    yield browser
    browser.close()


@pytest.fixture
def url(make_server: MakeServer) -> str:
    return make_server().start()


class Visitor:
    """A person with a browser of their own, and what went wrong in it."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.url = url
        self.errors: list[str] = []
        self.page: Page = browser.new_context().new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self._note(line.type, line.text))
        self.page.on("request", lambda request: self._check(request.url))

    def _note(self, kind: str, text: str) -> None:
        # That something does not exist (yet) is an answer, which the console calls an error.
        if kind == "error" and "404" not in text and "403" not in text:
            self.errors.append(text)

    def _check(self, requested: str) -> None:
        if not requested.startswith((self.url, "data:", "ws" + self.url[4:])):
            self.errors.append(f"asked elsewhere: {requested}")

    def sign_in(self, email: str) -> None:
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_text("Connected")).to_be_visible()

    def pick(self, whom: str, *, among: str) -> None:
        shown = self.page.get_by_role("list", name=among)
        shown.get_by_role("button", name=re.compile(re.escape(whom))).click()

    def say(self, text: str) -> None:
        self.page.get_by_role("textbox", name="Message").fill(text)
        self.page.get_by_role("button", name="Send").click()

    def expect_log(self, text: str) -> None:
        expect(self.page.get_by_role("log", name="Messages")).to_contain_text(text)


def test_in_swagger_ui_one_signs_in_authorizes_makes_a_group_and_lists_it(
    chromium: Browser, url: str
) -> None:
    visitor = Visitor(chromium, url)
    page = visitor.page
    page.goto(url)
    assert page.url == f"{url}/docs"

    def execute(summary: str) -> str:
        operation = page.locator(".opblock", has_text=summary)
        operation.locator(".opblock-summary").click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table .response .response-col_description")
        return answer.first.inner_text()

    signed_in = execute("Sign in; the first sign-in")
    found = re.search(r'"token": "([^"]+)"', signed_in)
    assert found, signed_in
    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".auth-container input").fill(found[1])
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Close").click()
    assert '"name": "python"' in execute("Make a group; its creator is a member")
    listed = execute("List groups")
    assert '"name": "python"' in listed
    assert '"joined": true' in listed
    assert visitor.errors == []


def test_two_people_chat_one_to_one(chromium: Browser, url: str) -> None:
    ann, bob = Visitor(chromium, url), Visitor(chromium, url)
    ann.page.goto(f"{url}/chat/user")
    ann.sign_in("ann@example.org")
    bob.page.goto(f"{url}/chat")
    bob.sign_in("bob@example.org")
    ann.pick("bob@example.org", among="Online")
    ann.say("Hello <b>Bob</b>")
    ann.expect_log("delivered")
    bob.pick("ann@example.org", among="Conversations")
    bob.expect_log("Hello <b>Bob</b>")
    ann.expect_log("read")
    bob.say("Hello Ann")
    ann.expect_log("Hello Ann")
    assert ann.errors == bob.errors == []


def test_a_token_in_the_address_signs_in_and_leaves_the_address_bar(
    chromium: Browser, url: str
) -> None:
    first = Visitor(chromium, url)
    first.page.goto(f"{url}/chat")
    first.sign_in("ann@example.org")
    token = first.page.evaluate("sessionStorage.getItem('token')")

    visitor = Visitor(chromium, url)
    visitor.page.goto(f"{url}/group/python/connect?Authorization={token}")
    visitor.page.get_by_role("button", name="Create this group").click()
    visitor.say("first!")
    visitor.expect_log("first!")
    assert visitor.page.url == f"{url}/group/python/connect"
    assert visitor.errors == []


def test_who_is_no_member_joins_first(chromium: Browser, url: str) -> None:
    ann, bob = Visitor(chromium, url), Visitor(chromium, url)
    ann.page.goto(f"{url}/group/python/connect")
    ann.sign_in("ann@example.org")
    ann.page.get_by_role("button", name="Create this group").click()
    ann.say("welcome")
    ann.expect_log("welcome")
    bob.page.goto(f"{url}/group/python/connect")
    bob.sign_in("bob@example.org")
    bob.page.get_by_role("button", name="Join").click()
    bob.expect_log("welcome")
    bob.say("thanks")
    ann.expect_log("thanks")
    assert ann.errors == bob.errors == []


def test_a_bad_token_brings_the_sign_in_form_and_then_the_same_place(
    chromium: Browser, url: str
) -> None:
    visitor = Visitor(chromium, url)
    visitor.page.goto(f"{url}/group/python/connect?Authorization=nonsense")
    visitor.errors.clear()
    visitor.sign_in("ann@example.org")
    expect(visitor.page.get_by_role("heading", name="Group python")).to_be_visible()
