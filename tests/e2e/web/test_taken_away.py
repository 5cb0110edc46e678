"""What is left on the pages of somebody who was erased, or deleted."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.server import Server
from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.visitor import Visitor

pytestmark = pytest.mark.browser

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"


def administer(server: Server, *arguments: str) -> None:
    command = [sys.executable, "-m", "chatd.cli", *arguments, "--data-dir", str(server.data_dir)]
    subprocess.run([*command, "--yes"], check=True, capture_output=True, timeout=60)


NOBODY_THERE = "This account no longer exists. Nobody can be written to here."


@pytest.fixture
def bob(server: Server, visitor: MakeVisitor, account: MakeAccount) -> Visitor:
    """Bob at the list, after Ann was erased and Cat deleted, who wrote to him and in a group."""
    ann, bob, cat = account(ANN), account(BOB), account(CAT)
    ann.say("hello from Ann", user=BOB)
    bob.say("hello, Ann", user=ANN)
    cat.say("hello from Cat", user=BOB)
    bob.create("club")
    for one in (cat, ann):
        one.join("club")
        one.say(f"{one.email.split('@')[0]} in the club", group="club")
    administer(server, "erase", ANN)
    administer(server, "user", "delete", CAT)
    page = visitor()
    page.enter(BOB)
    return page


def row(bob: Visitor, name: str) -> Locator:
    """The conversation with somebody of that name, whom a group's line may quote."""
    return bob.list("Conversations").get_by_role("button", name=re.compile(f"^{name}"))


def test_conversations_go_on_being_read(bob: Visitor) -> None:
    """Seen to fail with the addresses that stand for them as their names."""
    row(bob, "Erased person").click()
    expect(bob.page.get_by_text("hello from Ann")).to_be_visible()
    expect(bob.page.get_by_text("hello, Ann").first).to_be_visible()
    deleted = row(bob, "Deleted person")
    expect(deleted).to_contain_text("This message was removed.")
    deleted.click()
    expect(bob.page.get_by_role("heading", level=1, name="Deleted person")).to_be_visible()
    expect(bob.page.locator(".text.removed")).to_have_text("This message was removed.")
    expect(bob.page.get_by_text("hello from Cat")).to_have_count(0)
    expect(bob.page.get_by_text(ANN)).to_have_count(0)


def test_who_is_gone_is_named_so_everywhere(bob: Visitor) -> None:
    """Seen to fail with the addresses that stand for them as their names."""
    preview = bob.row("club", among="Conversations").locator(".preview")
    expect(preview).to_have_text("Erased person: ann in the club")
    bob.pick("club", among="Conversations")
    authors = bob.log.locator(".message.first .author")
    expect(authors).to_have_text(["Deleted person:", "Erased person:"])
    row(bob, "Erased person").click()
    expect(bob.page.get_by_role("heading", level=1, name="Erased person")).to_be_visible()
    expect(bob.page).to_have_title(re.compile("Erased person · chatd"))
    bob.find("erased per")
    expect(row(bob, "Erased person")).to_be_visible()
    expect(bob.row("club", among="Conversations")).to_have_count(0)
    bob.find("")
    expect(bob.page.get_by_text("erased.invalid")).to_have_count(0)


def test_who_is_gone_is_not_written_to_and_is_neither_there_nor_away(bob: Visitor) -> None:
    """Seen to fail with a composer as for everybody, and with "off line" in the header."""
    note = bob.page.get_by_text(NOBODY_THERE, exact=True).filter(visible=True)
    for name in ("Erased person", "Deleted person"):
        row(bob, name).click()
        expect(bob.page.get_by_role("heading", level=1, name=name)).to_be_visible()
        expect(note).to_be_visible()
        expect(bob.composer).to_be_hidden()
        expect(bob.page.locator("main header .about")).to_have_text("")
    bob.pick("club", among="Conversations")
    expect(note).to_have_count(0)
    bob.open("/chat/user#erased-0000000000000000@erased.invalid")
    expect(note).to_be_visible()
    expect(bob.button("Try again")).to_have_count(0)
