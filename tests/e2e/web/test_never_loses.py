"""Whatever breaks, what was written arrives: all of it, once, and in order."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.e2e.server import Server
from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.visitor import NO_SERVER, REFUSED, Visitor

pytestmark = pytest.mark.browser

ANN, BOB = "ann@example.org", "bob@example.org"
WITH_BOB = f"/chat/user#{BOB}"


@pytest.fixture
def ann(visitor: MakeVisitor, account: MakeAccount) -> Visitor:
    """Ann, who has the conversation with Bob open, and whose server may go away."""
    account(BOB)
    ann = visitor(*NO_SERVER)
    ann.enter(ANN, WITH_BOB)
    ann.expect_open(BOB)
    return ann


@pytest.fixture
def bob(visitor: MakeVisitor) -> Visitor:
    """Bob, who is on line, and has the conversation with Ann open."""
    bob = visitor(*NO_SERVER)
    bob.enter(BOB, f"/chat/user#{ANN}")
    bob.expect_open(ANN)
    return bob


def in_group(visitor: MakeVisitor, account: MakeAccount) -> Visitor:
    """Ann, who has a group open that she may be put out of."""
    account(BOB).create("python")
    account(ANN).join("python")
    ann = visitor(*NO_SERVER, REFUSED)
    ann.enter(ANN, "/group/python/connect")
    ann.expect_open("Group python")
    return ann


def expect_lost(person: Visitor, waiting: int) -> None:
    """The page tells that the line is down, and how many messages wait for it."""
    waits = "message waits" if waiting == 1 else "messages wait"
    told = person.page.get_by_text(f"The connection is lost. {waiting} {waits} to be sent.")
    expect(told).to_be_visible()


def seconds_left(person: Visitor) -> int:
    """How long the banner says the page waits until it tries again."""
    found = re.search(r"in (\d+) s", person.page.get_by_text("Reconnecting in").inner_text())
    assert found
    return int(found[1])


@pytest.mark.full("terminate")
@pytest.mark.parametrize("ending", [Server.terminate, Server.kill])
def test_what_is_written_while_the_server_is_away_is_sent_once_when_it_is_back(
    server: Server, ann: Visitor, bob: Visitor, account: MakeAccount, ending: Any
) -> None:
    ann.say("before")
    bob.expect_texts("before")
    ann.expect_tick("before", "read")
    ending(server)
    ann.say("one", "two", "three")
    for text in ("one", "two", "three"):
        ann.expect_tick(text, "sending")
    expect_lost(ann, 3)
    server.restart()
    everything = ("before", "one", "two", "three")
    bob.expect_texts(*everything)
    ann.expect_tick("three", "read")
    ann.expect_texts(*everything)
    ann.expect_connected()
    assert account(BOB).texts(user=ANN) == list(everything)


def test_a_server_that_ends_says_so_and_the_page_comes_back_by_itself(
    server: Server, ann: Visitor
) -> None:
    frames: list[dict[str, Any]] = []

    def received(payload: str | bytes) -> None:
        frames.append(json.loads(payload))

    ann.page.on("websocket", lambda socket: socket.on("framereceived", received))
    ann.page.reload()
    ann.expect_open(BOB)
    ann.expect_connected()
    server.terminate()
    expect(ann.page.get_by_text("The connection is lost.")).to_be_visible()
    assert frames[-1]["type"] == "bye"
    assert frames[-1]["reconnect"] is True
    server.restart()
    ann.expect_connected()
    assert [frame["type"] for frame in frames].count("hello") == 2


def test_what_is_written_off_line_is_sent_once_when_the_line_is_back(
    ann: Visitor, bob: Visitor, account: MakeAccount
) -> None:
    ann.context.set_offline(True)
    ann.say("one", "two", "three")
    for text in ("one", "two", "three"):
        ann.expect_tick(text, "sending")
    told = "This device is off line. 3 messages wait to be sent."
    expect(ann.page.get_by_text(told)).to_be_visible()
    # What comes from the other side meanwhile is not lost either.
    account(BOB).say("meanwhile", user=ANN)
    bob.expect_texts("meanwhile")
    ann.context.set_offline(False)
    everything = ("meanwhile", "one", "two", "three")
    bob.expect_texts(*everything)
    ann.expect_tick("three", "read")
    ann.expect_texts(*everything)
    assert account(BOB).texts(user=ANN) == list(everything)


def test_what_waits_to_be_sent_outlives_a_reload(
    server: Server, ann: Visitor, account: MakeAccount
) -> None:
    server.terminate()
    ann.say("one", "two", "three")
    expect_lost(ann, 3)
    # Elsewhere, the page can't send anything before it is loaded anew.
    ann.page.goto("about:blank")
    server.restart()
    ann.open(WITH_BOB)
    ann.expect_open(BOB)
    ann.expect_tick("three", "stored")
    ann.expect_texts("one", "two", "three")
    assert account(BOB).texts(user=ANN) == ["one", "two", "three"]
    ann.page.reload()
    ann.expect_texts("one", "two", "three")
    assert account(BOB).texts(user=ANN) == ["one", "two", "three"]


def test_what_a_closed_tab_had_to_send_another_one_sends(
    server: Server, ann: Visitor, account: MakeAccount
) -> None:
    server.terminate()
    ann.say("one", "two")
    expect_lost(ann, 2)
    ann.page.close()
    server.restart()
    later = ann.another_tab()
    later.enter(ANN)
    later.pick(BOB, among="Conversations")
    later.expect_texts("one", "two")
    later.expect_tick("two", "stored")
    assert account(BOB).texts(user=ANN) == ["one", "two"]


def test_what_was_stored_without_the_page_hearing_of_it_is_stored_once(
    ann: Visitor, account: MakeAccount
) -> None:
    lines: list[WebSocketRoute] = []

    def line(page: WebSocketRoute) -> None:
        lines.append(page)
        first = len(lines) == 1

        def heard(payload: str | bytes) -> None:
            if first and json.loads(payload)["type"] == "sent":
                # The server's side ends behind this one: were it the first to end, what the page
                # says meanwhile would go to a closed socket, and the console would tell of it.
                page.close(code=1011)
            else:
                page.send(payload)

        page.connect_to_server().on_message(heard)

    ann.page.route_web_socket(re.compile("/v1/ws"), line)
    ann.page.reload()
    ann.expect_open(BOB)
    ann.say("one", "two")
    ann.expect_tick("two", "stored")
    ann.expect_texts("one", "two")
    assert len(lines) == 2
    assert account(BOB).texts(user=ANN) == ["one", "two"]


def test_the_banner_counts_down_and_its_button_waits_no_longer(
    server: Server, ann: Visitor, account: MakeAccount
) -> None:
    ann.page.clock.install()
    ann.page.reload()
    ann.expect_connected()
    ann.expect_open(BOB)
    server.terminate()
    expect(ann.button("Retry now")).to_be_visible()
    ann.page.clock.pause_at(ann.page.evaluate("Date.now()") + 1)
    # From here time stands still but where the test moves it. Each attempt waits longer.
    for _ in range(4):
        ann.page.clock.run_for(10_000)
        expect(ann.page.get_by_text("Reconnecting in")).to_be_visible()
    while (before := seconds_left(ann)) <= 3:
        ann.page.clock.run_for(1_000)
        expect(ann.page.get_by_text("Reconnecting in")).to_be_visible()
    ann.page.clock.run_for(2_000)
    assert 0 < seconds_left(ann) < before
    ann.say("one")
    expect_lost(ann, 1)
    server.restart()
    ann.button("Retry now").click()
    ann.expect_tick("one", "stored")
    expect(ann.button("Retry now")).to_be_hidden()
    assert account(BOB).texts(user=ANN) == ["one"]


def test_what_the_server_will_not_take_is_said_and_can_be_sent_again(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    ann = in_group(visitor, account)
    ann.context.set_offline(True)
    ann.say("one", "two")
    ann.expect_tick("two", "sending")
    account(ANN).call("POST", "/v1/groups/python/leave")
    ann.context.set_offline(False)
    why = "Not sent. Only members of 'python' may do this; join it first."
    for text in ("one", "two"):
        expect(ann.message(text).get_by_role("alert")).to_have_text(why)
    ann.message("one").get_by_role("button", name="Discard").click()
    expect(ann.message("one")).to_have_count(0)
    account(ANN).join("python")
    ann.message("two").get_by_role("button", name="Send again").click()
    ann.expect_tick("two", "stored")
    assert account(BOB).texts(group="python") == ["two"]


def test_what_the_server_will_not_take_does_not_wait_to_be_sent(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    """Seen to fail with a strip that counts whatever is kept."""
    ann = in_group(visitor, account)
    # The page hears nothing of it, so it offers to write.
    ann.context.set_offline(True)
    ann.say("refused")
    account(ANN).call("POST", "/v1/groups/python/leave")
    ann.context.set_offline(False)
    expect(ann.message("refused").get_by_role("alert")).to_contain_text("Not sent")
    ann.context.set_offline(True)
    expect(ann.page.get_by_text("This device is off line.", exact=True)).to_be_visible()
    ann.say("waiting")
    told = "This device is off line. 1 message waits to be sent."
    expect(ann.page.get_by_text(told)).to_be_visible()


def test_while_the_line_is_down_nobody_is_said_to_be_there_or_not(
    server: Server, ann: Visitor, bob: Visitor, account: MakeAccount
) -> None:
    """Seen to fail with a page that keeps what it was told of others over a broken line."""
    account(BOB).create("python")
    account(ANN).join("python")
    header = ann.page.locator("main header")
    dots = ann.page.locator(".sign[data-online]")
    row = ann.row(BOB, among="Online")
    expect(header.get_by_text("on line", exact=True)).to_be_visible()
    expect(row).to_be_visible()
    expect(dots.first).to_be_visible()
    for part, away, back in (
        ("device", lambda: ann.context.set_offline(True), lambda: ann.context.set_offline(False)),
        ("server", server.terminate, server.restart),
    ):
        away()
        told = "This device is off line." if part == "device" else "The connection is lost."
        expect(ann.page.get_by_text(told)).to_be_visible()
        expect(header).not_to_contain_text(re.compile("on line|off line|last seen"))
        expect(row).to_be_hidden()
        expect(dots).to_have_count(0)
        expect(ann.page.get_by_text("Nobody else is on line.")).to_be_hidden()
        back()
        ann.expect_connected()
        expect(header.get_by_text("on line", exact=True)).to_be_visible()
        expect(row).to_be_visible()
    ann.pick("python", among="Conversations")
    about = header.get_by_text("2 members, 2 on line")
    expect(about).to_be_visible()
    ann.context.set_offline(True)
    expect(header.get_by_text("2 members", exact=True)).to_be_visible()
    ann.context.set_offline(False)
    expect(about).to_be_visible()


def test_who_signs_out_with_something_unsent_is_asked_first(server: Server, ann: Visitor) -> None:
    server.terminate()
    ann.say("one")
    expect_lost(ann, 1)
    dialog = ann.page.get_by_role("dialog", name="Sign out?")
    ann.button("Sign out").click()
    expect(dialog).to_contain_text("1 message has not been sent yet")
    dialog.get_by_role("button", name="Cancel").click()
    ann.expect_tick("one", "sending")
    ann.button("Sign out").click()
    dialog.get_by_role("button", name="Drop and sign out").click()
    ann.expect_form()
    assert ann.kept() == {}


def test_what_is_written_in_quick_succession_keeps_its_order(
    ann: Visitor, account: MakeAccount
) -> None:
    texts = [f"line {number}" for number in range(1, 21)]
    for text in texts:
        ann.composer.fill(text)
        ann.composer.press("Enter")
    ann.expect_tick(texts[-1], "stored")
    ann.expect_texts(*texts)
    assert account(BOB).texts(user=ANN) == texts


class TestGaps:
    """Servers that replay little: what lies behind it has to be fetched."""

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"CHATD_LIMITS__REPLAY": "5"}

    def test_who_was_away_finds_more_than_is_replayed(
        self, ann: Visitor, visitor: MakeVisitor, account: MakeAccount
    ) -> None:
        texts = [f"line {number}" for number in range(1, 31)]
        account(ANN).say(*texts, user=BOB)
        ann.expect_texts(*texts)
        ann.expect_tick("line 30", "stored")
        bob = visitor()
        bob.enter(BOB)
        bob.expect_unread(ANN, 30)
        # He has not opened it, yet has it all.
        for text in texts:
            ann.expect_tick(text, "delivered")
        bob.pick(ANN, among="Conversations")
        bob.expect_texts(*texts)

    def test_who_was_cut_off_in_an_open_conversation_finds_more_than_is_replayed(
        self, ann: Visitor, bob: Visitor, account: MakeAccount
    ) -> None:
        texts = [f"line {number}" for number in range(1, 31)]
        ann.say("line 0")
        bob.expect_texts("line 0")
        bob.look_away()
        bob.context.set_offline(True)
        expect(bob.page.get_by_text("This device is off line.")).to_be_visible()
        account(ANN).say(*texts, user=BOB)
        ann.expect_tick("line 30", "stored")
        bob.context.set_offline(False)
        bob.expect_texts("line 0", *texts)
        for text in texts:
            ann.expect_tick(text, "delivered")
        bob.look_back()
        # He stood at the end, and still does.
        expect(bob.message("line 30")).to_be_in_viewport()
        expect(bob.page.get_by_text("New messages", exact=True)).to_have_count(1)
        for text in texts:
            ann.expect_tick(text, "read")


class TestManyOnLine:
    """Servers that push nothing of who is on line, because too many are."""

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"CHATD_LIMITS__PRESENCE": "1"}

    def test_who_is_there_is_asked_anew_behind_a_broken_line(
        self, visitor: MakeVisitor, account: MakeAccount
    ) -> None:
        """Seen to fail with a page that goes on with what it had asked before."""
        cyd, bob, ann = visitor(), visitor(), visitor(*NO_SERVER)
        cyd.enter("cyd@example.org")
        bob.enter(BOB)
        ann.enter(ANN, WITH_BOB)
        about = ann.page.locator("main header .about")
        expect(about).to_have_text("on line")
        ann.context.set_offline(True)
        expect(about).to_have_text("")
        bob.page.close()
        asked = account("dan@example.org")
        while asked.call("GET", f"/v1/users?prefix={BOB}")["items"][0]["online"]:
            ann.page.wait_for_timeout(20)
        ann.context.set_offline(False)
        expect(about).to_have_text(re.compile("off line|last seen"))


class TestSlowPens:
    """Servers that take few messages at a time."""

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"CHATD_LIMITS__SEND_PER_SECOND": "2", "CHATD_LIMITS__SEND_BURST": "1"}

    def test_who_writes_faster_than_allowed_waits_and_loses_nothing(
        self, visitor: MakeVisitor, account: MakeAccount
    ) -> None:
        account(BOB)
        ann = visitor()
        ann.enter(ANN, WITH_BOB)
        texts = [f"line {number}" for number in range(1, 5)]
        ann.say(*texts)
        ann.expect_tick("line 4", "stored")
        ann.expect_texts(*texts)
        assert account(BOB).texts(user=ANN) == texts


def test_what_one_tab_sends_and_reads_the_other_shows(ann: Visitor, account: MakeAccount) -> None:
    bob = account(BOB)
    other = ann.another_tab()
    other.enter(ANN)
    ann.say("from the first")
    other.pick(BOB, among="Conversations")
    other.expect_texts("from the first")
    other.say("from the second")
    ann.expect_texts("from the first", "from the second")
    other.expect_texts("from the first", "from the second")

    for tab in (ann, other):
        tab.look_away()
    bob.say("hello", user=ANN)
    for tab in (ann, other):
        tab.expect_unread(BOB, 1)
        expect(tab.page).to_have_title(f"(1) {BOB} · chatd")
    other.look_back()
    for tab in (ann, other):
        tab.expect_unread(BOB, 0)
        expect(tab.page).to_have_title(f"{BOB} · chatd")
    assert len(bob.history(user=ANN)) == 3


def test_a_flood_of_messages_arrives_whole_and_in_order(ann: Visitor, account: MakeAccount) -> None:
    bob = account(BOB)
    with ThreadPoolExecutor(8) as hands:
        for sent in [hands.submit(bob.say, f"line {n}", user=ANN) for n in range(200)]:
            sent.result()
    stored = bob.texts(user=ANN)
    assert len(set(stored)) == 200
    ann.expect_texts(*stored)
    expect(ann.message(stored[-1])).to_be_in_viewport()
