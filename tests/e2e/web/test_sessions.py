"""Signing in and out: by the form, by a token in the address, and staying signed in."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Request, expect

from tests.chat import PASSWORD
from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.visitor import REFUSED, Visitor

pytestmark = pytest.mark.browser

ANN, BOB = "ann@example.org", "bob@example.org"
DOOR = "/group/python/connect"
BAD_LINK = "This link is no longer good. Sign in."
ENDED = "Your session has ended. Sign in again to go on where you were."


def addresses_in_history(person: Visitor) -> list[str]:
    """Every address that going back and forth would show."""
    history = person.context.new_cdp_session(person.page).send("Page.getNavigationHistory")
    return [entry["url"] for entry in history["entries"]]


def requests_of(person: Visitor) -> list[Request]:
    """Every request of the browser from now on."""
    seen: list[Request] = []

    def note(request: Request) -> None:
        seen.append(request)

    person.context.on("request", note)
    return seen


@pytest.mark.full("Bearer ")
@pytest.mark.parametrize("prefix", ["", "Bearer "])
def test_a_token_in_the_address_signs_in_and_is_seen_nowhere_after(
    visitor: MakeVisitor, account: MakeAccount, prefix: str
) -> None:
    account(BOB)
    token = account(ANN).token
    ann = visitor()
    asked = requests_of(ann)
    ann.open("/docs")
    ann.open(f"{DOOR}?Authorization={quote(prefix + token)}")
    ann.button("Create this group").click()
    ann.expect_open("Group python")
    assert ann.place == DOOR
    ann.page.reload()
    ann.expect_open("Group python")
    ann.find(BOB)
    ann.pick(BOB, among="People found")
    ann.page.go_back()
    ann.expect_open("Group python")
    ann.page.go_back()
    assert ann.place == "/docs"
    assert addresses_in_history(ann)[1:] == [
        f"{ann.url}/docs",
        f"{ann.url}{DOOR}",
        f"{ann.url}/chat/user#{BOB}",
    ]
    told = [one.url for one in asked if token in one.url]
    assert len(told) == 1
    assert [one.url for one in asked if token in one.headers.get("referer", "")] == []


def test_a_bad_token_brings_the_form_and_then_the_same_place(visitor: MakeVisitor) -> None:
    """Seen to fail with a session that ends, whatever the token came from."""
    ann = visitor()
    ann.open(f"{DOOR}?Authorization=nonsense")
    ann.expect_form()
    expect(ann.page.get_by_text(BAD_LINK)).to_be_visible()
    expect(ann.page.get_by_text(ENDED)).to_have_count(0)
    assert ann.place == DOOR
    ann.sign_in(ANN)
    expect(ann.page.get_by_role("heading", name="Group python")).to_be_visible()
    assert ann.place == DOOR


def test_a_session_that_a_link_began_ends_like_any_other(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    signed_in = account(ANN)
    ann = visitor()
    ann.open(f"/chat?Authorization={signed_in.token}")
    ann.expect_connected()
    signed_in.call("POST", "/v1/auth/sign-out")
    expect(ann.page.get_by_text(ENDED)).to_be_visible()
    # A token that was kept from before is none of a link's.
    ann.page.evaluate("token => sessionStorage.setItem('chatd.token', token)", signed_in.token)
    ann.page.reload()
    expect(ann.page.get_by_text(ENDED)).to_be_visible()


def test_without_a_token_the_form_leads_to_the_place_asked_for(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(BOB)
    ann = visitor()
    ann.enter(ANN, f"/chat/user#{BOB}")
    ann.expect_open(BOB)
    ann.page.reload()
    ann.expect_open(BOB)


def test_what_is_wrong_with_a_sign_in_stands_beside_its_field(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(ANN)
    ann = visitor(REFUSED)
    asked = requests_of(ann)
    ann.open()
    email, password = ann.page.get_by_label("E-mail"), ann.page.get_by_label("Password")
    ann.fill_in("ann")
    expect(email).to_have_accessible_description(re.compile("such as ann@example.org"))
    ann.fill_in(ANN, "short")
    expect(email).not_to_have_attribute("aria-invalid", "true")
    expect(password).to_have_accessible_description(re.compile("at least 8 characters"))
    assert not [one for one in asked if one.method == "POST"]
    ann.fill_in(ANN, "wrong horse battery")
    expect(password).to_have_attribute("aria-invalid", "true")
    expect(password).to_have_accessible_description("The e-mail address or the password is wrong.")
    expect(password).to_be_focused()
    ann.fill_in("ann@nowhere@example.org")
    expect(email).to_have_attribute("aria-invalid", "true")
    ann.sign_in(ANN)


def test_who_is_signed_out_elsewhere_signs_in_again_and_goes_on_where_they_were(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    bob = account(BOB)
    bob.create("python")
    account(ANN).join("python")
    ann = visitor()
    ann.enter(ANN, DOOR)
    ann.expect_open("Group python")
    ann.composer.fill("half a sen")
    elsewhere = account(ANN)
    elsewhere.token = ann.token()
    elsewhere.call("POST", "/v1/auth/sign-out")
    ann.expect_form()
    expect(ann.page.get_by_text(ENDED)).to_be_visible()
    bob.say("meanwhile", group="python")
    # Only the password is missing.
    expect(ann.page.get_by_label("E-mail")).to_have_value(ANN)
    ann.page.get_by_label("Password").fill(PASSWORD)
    ann.page.keyboard.press("Enter")
    ann.expect_open("Group python")
    ann.expect_texts("meanwhile")
    expect(ann.composer).to_have_value("half a sen")
    assert ann.place == DOOR


def test_who_signs_out_is_signed_out_everywhere_with_this_token(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(BOB)
    ann = visitor()
    ann.enter(ANN, f"/chat/user#{BOB}")
    ann.expect_open(BOB)
    ann.composer.fill("never mind")
    token = ann.token()
    with ann.page.expect_response("**/v1/auth/sign-out") as answer:
        ann.button("Sign out").click()
    assert answer.value.status == 204
    ann.expect_form()
    expect(ann.page.get_by_text(ENDED)).to_have_count(0)
    assert ann.kept() == {}
    ann.page.reload()
    ann.expect_form()
    ann.open(f"/chat?Authorization={token}")
    ann.expect_form()


class TestClosed:
    """A server that makes no new accounts."""

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"CHATD_AUTH__SIGNUP": "closed"}

    def test_the_form_promises_no_account_and_says_that_there_is_none(
        self, visitor: MakeVisitor
    ) -> None:
        ann = visitor(REFUSED)
        ann.open()
        lead = "A new address makes a new account, where this server takes new ones."
        expect(ann.page.get_by_text(lead, exact=True)).to_be_visible()
        ann.fill_in(ANN)
        refusal = "This server makes no new account for this e-mail address."
        expect(ann.page.get_by_text(refusal, exact=True)).to_be_visible()


class TestShortTokens:
    """Tokens that the page has to renew again and again."""

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"CHATD_AUTH__TOKEN_SECONDS": "4"}

    def test_the_page_outlives_its_token_many_times(
        self, visitor: MakeVisitor, account: MakeAccount
    ) -> None:
        account(BOB).create("python")
        account(ANN).join("python")
        ann = visitor()
        sockets: list[str] = []
        tokens: list[str] = []

        def sent(payload: str | bytes) -> None:
            frame: dict[str, Any] = json.loads(payload)
            tokens.extend(frame["token"] for _ in range(frame["type"] == "auth"))

        ann.page.on("websocket", lambda socket: sockets.append(socket.url))
        ann.page.on("websocket", lambda socket: socket.on("framesent", sent))
        ann.enter(ANN)
        form = ann.page.get_by_role("heading", name="Sign in")
        # No token is asked to live beyond its half, so these are more than two whole lives.
        for _ in range(5):
            with ann.page.expect_response("**/v1/auth/token"):
                expect(form).to_be_hidden()
        # The live socket is still the first one, and REST has a token that is good.
        account(BOB).say("still there?", group="python")
        ann.expect_unread("python", 1)
        ann.pick("python", among="Conversations")
        ann.expect_texts("still there?")
        ann.say("yes")
        ann.expect_tick("yes", "stored")
        assert len(sockets) == 1
        assert len(set(tokens)) == len(tokens) >= 6
        ann.page.reload()
        ann.expect_open("Group python")
