"""Two people talk to each other."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.visitor import Visitor

pytestmark = pytest.mark.browser

ANN, BOB, CYD = "ann@example.org", "bob@example.org", "cyd@example.org"


@pytest.fixture
def ann(visitor: MakeVisitor) -> Visitor:
    """Ann, at the page for talking one to one."""
    ann = visitor()
    ann.enter(ANN, "/chat/user")
    return ann


def test_who_signs_in_appears_by_themselves_and_goes_with_their_browser(
    ann: Visitor, visitor: MakeVisitor
) -> None:
    expect(ann.page.get_by_text("Nobody else is on line.")).to_be_visible()
    bob = visitor()
    bob.enter(BOB)
    expect(ann.row(BOB, among="Online")).to_be_visible()
    expect(bob.row(ANN, among="Online")).to_be_visible()
    expect(ann.row(ANN, among="Online")).to_have_count(0)
    bob.page.close()
    expect(ann.row(BOB, among="Online")).to_have_count(0)
    expect(ann.page.get_by_text("Nobody else is on line.")).to_be_visible()


def test_two_people_chat_one_to_one(ann: Visitor, visitor: MakeVisitor) -> None:
    bob = visitor()
    bob.enter(BOB)
    ann.pick(BOB, among="Online")
    ann.say("Hello <b>Bob</b>")
    bob.pick(ANN, among="Conversations")
    bob.expect_texts("Hello <b>Bob</b>")
    bob.say("Hello Ann")
    ann.expect_texts("Hello <b>Bob</b>", "Hello Ann")
    ann.say("How are you?")
    bob.expect_texts("Hello <b>Bob</b>", "Hello Ann", "How are you?")
    ann.expect_tick("How are you?", "read")
    bob.expect_tick("Hello Ann", "read")


def test_the_tick_says_stored_then_delivered_then_read(
    ann: Visitor, visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(BOB)
    ann.find(BOB)
    ann.pick(BOB, among="People found")
    ann.say("one")
    # Nothing but his coming and his opening it can move the tick any further.
    ann.expect_tick("one", "stored")
    bob = visitor()
    bob.enter(BOB)
    bob.expect_unread(ANN, 1)
    ann.expect_tick("one", "delivered")
    bob.pick(ANN, among="Conversations")
    ann.expect_tick("one", "read")


def test_what_comes_while_nobody_looks_is_delivered_and_read_when_somebody_does(
    ann: Visitor, visitor: MakeVisitor
) -> None:
    bob = visitor()
    bob.enter(BOB)
    ann.pick(BOB, among="Online")
    bob.pick(ANN, among="Online")
    bob.look_away()
    ann.say("are you there?")
    bob.expect_log("are you there?")
    ann.expect_tick("are you there?", "delivered")
    bob.expect_unread(ANN, 1)
    bob.look_back()
    ann.expect_tick("are you there?", "read")
    bob.expect_unread(ANN, 0)


def test_the_other_sees_that_one_is_typing(ann: Visitor, visitor: MakeVisitor) -> None:
    bob = visitor()
    bob.enter(BOB)
    bob.pick(ANN, among="Online")
    ann.pick(BOB, among="Online")
    ann.composer.press_sequentially("H")
    expect(bob.page.get_by_text(f"{ANN} is typing …")).to_be_visible()
    ann.say("Hello")
    bob.expect_texts("Hello")
    expect(bob.page.get_by_text("is typing …")).to_have_count(0)


def test_who_is_off_line_is_found_by_address_and_written_to(
    ann: Visitor, account: MakeAccount
) -> None:
    bob = account(BOB)
    ann.find("Bob@Ex")
    ann.pick(BOB, among="People found")
    expect(ann.page.get_by_text("off line", exact=True)).to_be_visible()
    ann.say("for later")
    ann.expect_tick("for later", "stored")
    assert bob.texts(user=ANN) == ["for later"]


def test_an_address_that_nobody_has_is_told_and_found_once_somebody_has_it(
    ann: Visitor, account: MakeAccount
) -> None:
    ann.find("no such name")
    expect(ann.page.get_by_text("Nothing found.")).to_be_visible()
    ann.find(BOB)
    expect(ann.page.get_by_text(f"Nobody has signed up as {BOB} yet.")).to_be_visible()
    ann.open(f"/chat/user#{BOB}")
    main = ann.page.get_by_role("main")
    expect(main.get_by_text(f"Nobody has signed up as {BOB} yet.")).to_be_visible()
    expect(ann.composer).to_be_hidden()
    account(BOB)
    ann.button("Try again").click()
    ann.expect_open(BOB)


def test_who_comes_later_finds_what_was_missed_at_its_first_line(
    ann: Visitor, visitor: MakeVisitor, account: MakeAccount
) -> None:
    cyd, bob = account(CYD), account(BOB)
    # More than fits on the screen on both sides of the line, so that it is seen where it opens.
    known = [f"known {number}" for number in range(1, 41)]
    missed = [f"missed {number}" for number in range(1, 41)]
    cyd.say(*known, user=BOB)
    bob.call("POST", f"/v1/users/{CYD}/receipts", {"read_seq": 40})
    cyd.say(*missed, user=BOB)
    late = visitor()
    late.enter(BOB)
    late.expect_unread(CYD, 40)
    late.pick(CYD, among="Conversations")
    expect(late.log.get_by_text("New messages")).to_be_in_viewport()
    expect(late.message("missed 1")).to_be_in_viewport()
    expect(late.message("missed 40")).not_to_be_in_viewport()
    late.page.get_by_role("button", name="Jump to the newest").click()
    expect(late.message("missed 40")).to_be_in_viewport()
    late.expect_unread(CYD, 0)
    # The line stays where the eyes have got used to it.
    expect(late.log.locator(".message + .new + .message .text")).to_have_text("missed 1")


def test_conversations_keep_to_themselves_however_one_goes_between_them(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    """Seen to fail with rows that stay: messages of each have the same numbers."""
    account(ANN)
    said = {whom: [f"{whom} says {number}" for number in range(3)] for whom in (BOB, CYD)}
    for whom, texts in said.items():
        account(whom).say(*texts, user=ANN)
    ann = visitor()
    ann.enter(ANN)
    for whom in (BOB, CYD, BOB, CYD):
        ann.pick(whom, among="Conversations")
        ann.expect_texts(*said[whom])


def test_the_tabs_title_tells_what_is_unread(
    ann: Visitor, visitor: MakeVisitor, account: MakeAccount
) -> None:
    bob, cyd = account(BOB), account(CYD)
    expect(ann.page).to_have_title("chatd")
    bob.say("one", "two", user=ANN)
    expect(ann.page).to_have_title("(2) chatd")
    cyd.say("three", user=ANN)
    expect(ann.page).to_have_title("(3) chatd")
    ann.pick(BOB, among="Conversations")
    expect(ann.page).to_have_title(f"(1) {BOB} · chatd")
    ann.pick(CYD, among="Conversations")
    expect(ann.page).to_have_title(f"{CYD} · chatd")


def test_what_was_begun_waits_in_its_conversation_and_outlives_a_reload(
    ann: Visitor, account: MakeAccount
) -> None:
    account(BOB).say("hello", user=ANN)
    account(CYD).say("hello", user=ANN)
    ann.pick(BOB, among="Conversations")
    ann.composer.fill("Dear Bob")
    ann.pick(CYD, among="Conversations")
    expect(ann.composer).to_have_value("")
    ann.composer.fill("Dear Cyd")
    expect(ann.row(BOB, among="Conversations")).to_contain_text("Draft: Dear Bob")
    ann.page.reload()
    ann.expect_open(CYD)
    expect(ann.composer).to_have_value("Dear Cyd")
    ann.pick(BOB, among="Conversations")
    expect(ann.composer).to_have_value("Dear Bob")
    ann.button("Send").click()
    ann.expect_texts("hello", "Dear Bob")
    ann.page.reload()
    ann.expect_open(BOB)
    expect(ann.composer).to_have_value("")


def test_enter_sends_and_shift_with_enter_breaks_the_line(
    ann: Visitor, account: MakeAccount
) -> None:
    bob = account(BOB)
    bob.say("hello", user=ANN)
    ann.pick(BOB, among="Conversations")
    ann.composer.press_sequentially("first")
    ann.composer.press("Shift+Enter")
    ann.composer.press_sequentially("second")
    ann.composer.press("Enter")
    expect(ann.composer).to_have_value("")
    ann.expect_tick("first\nsecond", "stored")
    ann.composer.press("Enter")
    ann.composer.press_sequentially("  ")
    ann.composer.press("Enter")
    ann.say("after nothing")
    ann.expect_tick("after nothing", "stored")
    assert bob.texts(user=ANN) == ["hello", "first\nsecond", "after nothing"]


def test_near_the_limit_characters_are_counted_and_beyond_it_nothing_is_sent(
    ann: Visitor, account: MakeAccount
) -> None:
    bob = account(BOB)
    bob.say("hello", user=ANN)
    ann.pick(BOB, among="Conversations")
    # Of those, each is one character and two of JavaScript's.
    ann.composer.fill("🙂" * 3_600)
    expect(ann.page.get_by_text(" left")).to_have_count(0)
    ann.composer.fill("🙂" * 3_990)
    expect(ann.page.get_by_text("10 left")).to_be_visible()
    ann.composer.fill("🙂" * 4_002)
    expect(ann.page.get_by_text("2 characters too many")).to_be_visible()
    ann.composer.press("Enter")
    ann.button("Send").click(force=True)
    expect(ann.composer).to_have_value("🙂" * 4_002)
    ann.composer.fill("🙂" * 4_000)
    expect(ann.page.get_by_text("0 left", exact=True)).to_be_visible()
    ann.composer.press("Enter")
    ann.expect_tick("🙂" * 4_000, "stored")
    assert bob.texts(user=ANN) == ["hello", "🙂" * 4_000]
