"""One's own account, by the page: its password, its data, its end."""

from __future__ import annotations

import json
import re
from collections.abc import Sized
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Locator, Route, expect

from tests.chat import PASSWORD
from tests.e2e.server import Server
from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.visitor import NO_SERVER, PATIENCE_MS, REFUSED, Visitor
from tests.leaks import watch

pytestmark = pytest.mark.browser

ANN, BOB = "ann@example.org", "bob@example.org"
OTHER = "staple battery correct"
WRONG = "wrong horse battery"
LABELS = {
    "current": "Current password",
    "new": "New password",
    "again": "New password again",
    "end": "Your password",
}
CHANGED = "Your password is changed. Everywhere else you are signed out."


@pytest.fixture
def ann(visitor: MakeVisitor, account: MakeAccount) -> Visitor:
    """Ann, in the conversation with Bob."""
    account(BOB).say("hello", user=account(ANN).email)
    ann = visitor(REFUSED)
    ann.enter(ANN, f"/chat/user#{BOB}")
    ann.expect_open(BOB)
    return ann


def opened(person: Visitor) -> Locator:
    """The dialog, once it is opened."""
    person.button("Your account").click()
    dialog = person.page.get_by_role("dialog", name="Your account")
    expect(dialog).to_be_visible()
    return dialog


def fill(dialog: Locator, **fields: str) -> None:
    for name, value in fields.items():
        if value != ANN:  # which is a bad password, and no secret: servers may log it
            watch.keep({"password": value})
        dialog.get_by_label(LABELS[name], exact=True).fill(value)


def press(dialog: Locator, name: str) -> None:
    dialog.get_by_role("button", name=name, exact=True).click()


def change(dialog: Locator, current: str, new: str) -> None:
    fill(dialog, current=current, new=new, again=new)
    press(dialog, "Change password")


def erase(person: Visitor, password: str, *, sure: bool = True) -> None:
    dialog = person.page.get_by_role("dialog", name="Your account")
    fill(dialog, end=password)
    press(dialog, "Erase my account")
    question = person.page.get_by_role("dialog", name="Erase your account?")
    expect(question).to_be_visible()
    press(question, "Erase for good" if sure else "Cancel")
    expect(question).to_be_hidden()


def wait_for(person: Visitor, noted: Sized) -> None:
    """Let the page go on until something is noted."""
    for _ in range(PATIENCE_MS // 20):
        if noted:
            return
        person.page.wait_for_timeout(20)
    pytest.fail("nothing was noted")


# -- the password ------------------------------------------------------------------------------


def test_with_a_new_password_the_page_goes_on_and_all_others_end(
    ann: Visitor, account: MakeAccount
) -> None:
    """Seen to fail with a token of the answer's that is not taken."""
    sockets: list[str] = []
    ann.page.on("websocket", lambda socket: sockets.append(socket.url))
    elsewhere = ann.another_tab()
    elsewhere.enter(ANN)
    before = ann.token()
    dialog = opened(ann)
    change(dialog, PASSWORD, OTHER)
    expect(dialog.get_by_role("status").get_by_text(CHANGED)).to_be_visible()
    elsewhere.expect_form()
    for label in ("Current password", "New password", "New password again"):
        expect(dialog.get_by_label(label, exact=True)).to_have_value("")
    assert ann.token() not in (before, "null")
    press(dialog, "Close")
    expect(dialog).to_be_hidden()
    ann.expect_connected()
    ann.say("still here")
    ann.expect_tick("still here", "stored")
    account(BOB).say("so I see", user=ANN)
    ann.expect_texts("hello", "still here", "so I see")
    # One in place of the one that the server ended.
    assert len(sockets) == 1
    ann.page.reload()
    ann.expect_open(BOB)
    elsewhere.fill_in(ANN, PASSWORD)
    expect(elsewhere.page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")
    elsewhere.sign_in(ANN, OTHER)


def test_an_answer_that_is_slower_than_the_end_of_the_socket_is_waited_for(ann: Visitor) -> None:
    """Seen to fail with a page that does not wait for the answer, when its socket is ended."""
    ended: list[str] = []

    def heard(payload: str | bytes) -> None:
        if json.loads(payload)["type"] == "bye":
            ended.append("bye")

    ann.page.on("websocket", lambda socket: socket.on("framereceived", heard))
    ann.page.reload()
    ann.expect_open(BOB)

    def late(route: Route) -> None:
        answer = route.fetch()
        wait_for(ann, ended)
        route.fulfill(response=answer)

    ann.page.route("**/v1/auth/password", late)
    dialog = opened(ann)
    change(dialog, PASSWORD, OTHER)
    expect(dialog.get_by_text(CHANGED)).to_be_visible()
    press(dialog, "Close")
    ann.say("still here")
    ann.expect_tick("still here", "stored")


def test_what_is_wrong_with_a_password_stands_beside_its_field(ann: Visitor) -> None:
    """Seen to fail with a session that ends by a wrong password."""
    dialog = opened(ann)
    current, new, again = (
        dialog.get_by_label(label, exact=True)
        for label in ("Current password", "New password", "New password again")
    )
    expect(current).to_be_focused()
    fill(dialog, current=PASSWORD, new="short")
    press(dialog, "Change password")
    expect(new).to_have_accessible_description(re.compile("A password has at least 8 characters."))
    expect(new).to_be_focused()
    fill(dialog, new=OTHER, again=WRONG)
    press(dialog, "Change password")
    expect(again).to_have_accessible_description("This is not the same as above.")
    expect(again).to_be_focused()
    change(dialog, WRONG, OTHER)
    expect(current).to_have_attribute("aria-invalid", "true")
    expect(current).to_have_accessible_description("This password is wrong.")
    expect(current).to_be_focused()
    change(dialog, PASSWORD, ANN)
    guessable = "This password is among the first that are guessed: choose another."
    expect(new).to_have_accessible_description(re.compile(guessable))
    change(dialog, PASSWORD, OTHER)
    expect(dialog.get_by_text(CHANGED)).to_be_visible()


def test_no_password_is_left_in_a_dialog_that_was_closed(ann: Visitor) -> None:
    """Seen to fail with a dialog that is only closed."""
    dialog = opened(ann)
    fill(dialog, current=PASSWORD, end=PASSWORD)
    press(dialog, "Change password")
    expect(dialog.get_by_text("A password has at least 8 characters.")).to_be_visible()
    ann.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(ann.button("Your account")).to_be_focused()
    opened(ann)
    for label in ("Current password", "Your password"):
        expect(dialog.get_by_label(label, exact=True)).to_have_value("")
    expect(dialog.get_by_text("A password has at least 8 characters.")).to_have_count(0)


class TestRenewing:
    """A page that asks for a token in place of its own now and then."""

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"CHATD_AUTH__TOKEN_SECONDS": "10"}

    def test_a_token_that_comes_behind_the_one_of_a_new_password_is_not_taken(
        self, ann: Visitor
    ) -> None:
        """Seen to fail with a page that takes whatever token comes."""
        held: list[tuple[Route, APIResponse]] = []

        def hold(route: Route) -> None:
            held.append((route, route.fetch()))

        ann.page.route("**/v1/auth/token", hold, times=1)
        dialog = opened(ann)
        with ann.page.expect_request("**/v1/auth/token"):
            pass
        wait_for(ann, held)
        change(dialog, PASSWORD, OTHER)
        expect(dialog.get_by_text(CHANGED)).to_be_visible()
        route, answer = held[0]
        with ann.page.expect_response("**/v1/auth/token"):
            route.fulfill(response=answer)
        press(dialog, "Close")
        ann.say("still here")
        ann.expect_tick("still here", "stored")
        # As good as the socket's is the one for all that is asked.
        with ann.page.expect_response("**/v1/auth/token") as renewed:
            pass
        assert renewed.value.ok


# -- the data ----------------------------------------------------------------------------------


def test_ones_data_come_as_a_file(ann: Visitor, tmp_path: Path) -> None:
    """Seen to fail with a file that is opened in place of being kept."""
    dialog = opened(ann)
    with ann.page.expect_download() as download:
        press(dialog, "Download my data")
    assert download.value.suggested_filename == "chatd-export.json"
    download.value.save_as(tmp_path / "export.json")
    export = json.loads((tmp_path / "export.json").read_text())
    assert export["user"]["email"] == ANN
    (conversation,) = export["conversations"]
    assert conversation["user"] == BOB
    assert [message["text"] for message in conversation["messages"]] == ["hello"]
    expect(dialog.get_by_text("Your data is in chatd-export.json.")).to_be_visible()


def test_data_that_do_not_come_are_told_of(server: Server, ann: Visitor) -> None:
    ann.troubles.expect(*NO_SERVER)
    dialog = opened(ann)
    busy = {
        "code": "rate_limited",
        "detail": "an export of this account is under way",
    }
    ann.page.route("**/v1/me/export", lambda route: route.fulfill(status=429, json=busy))
    press(dialog, "Download my data")
    told = dialog.get_by_role("alert").filter(has_text="An export of this account is under way.")
    expect(told).to_be_visible()
    ann.page.unroute("**/v1/me/export")
    server.terminate()
    press(dialog, "Download my data")
    expect(dialog.get_by_text("The server can't be reached.")).to_be_visible()
    server.restart()


# -- the end -----------------------------------------------------------------------------------


def test_who_erases_themselves_is_gone_from_the_browser_and_for_others(
    ann: Visitor, visitor: MakeVisitor
) -> None:
    """Seen to fail with a page that ends with its socket, and with drafts or wishes that stay."""
    ann.say("remember me")
    ann.expect_tick("remember me", "stored")
    ann.composer.fill("half a sen")
    # That notifications are wanted.
    ann.page.evaluate(f"localStorage.setItem('chatd.preference:{ANN}:wanted', 'true')")
    elsewhere = ann.another_tab()
    elsewhere.enter(ANN)
    opened(ann)
    erase(ann, PASSWORD)
    ann.expect_form()
    expect(ann.page.get_by_text("Your account is erased.", exact=True)).to_be_visible()
    expect(ann.page.get_by_label("E-mail")).to_have_value("")
    assert ann.kept() == {}
    elsewhere.expect_form()
    bob = visitor()
    bob.enter(BOB)
    bob.row("Erased person", among="Conversations").click()
    bob.expect_texts("hello", "remember me")
    ann.page.reload()
    ann.expect_form()


def test_nobody_is_erased_by_a_wrong_password_or_without_being_asked(ann: Visitor) -> None:
    """Seen to fail with a session that ends by a wrong password, and without the question."""
    dialog = opened(ann)
    press(dialog, "Erase my account")
    password = dialog.get_by_label("Your password", exact=True)
    expect(password).to_have_accessible_description("Enter your password.")
    erase(ann, PASSWORD, sure=False)
    expect(dialog).to_be_visible()
    erase(ann, WRONG)
    expect(password).to_have_accessible_description("This password is wrong.")
    expect(password).to_be_focused()
    expect(password).to_have_attribute("aria-invalid", "true")
    press(dialog, "Close")
    ann.say("still here")
    ann.expect_tick("still here", "stored")


def test_who_guesses_too_often_is_told_so(ann: Visitor) -> None:
    dialog = opened(ann)
    too_many = dialog.get_by_text("Too many wrong passwords for this account; try again later.")
    password = dialog.get_by_label("Your password", exact=True)
    for _ in range(100):
        with ann.page.expect_response("**/v1/me") as answer:
            erase(ann, WRONG)
        if answer.value.status == 429:
            break
        expect(password).to_have_attribute("aria-invalid", "true")
    expect(too_many).to_be_visible()
    expect(password).not_to_have_attribute("aria-invalid", "true")
