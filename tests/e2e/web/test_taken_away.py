"""What is left on the pages of somebody who was erased, or deleted."""

from __future__ import annotations

import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.e2e.server import Server
from tests.e2e.web.conftest import MakeAccount, MakeVisitor

pytestmark = pytest.mark.browser

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"


def administer(server: Server, *arguments: str) -> None:
    command = [sys.executable, "-m", "chatd.cli", *arguments, "--data-dir", str(server.data_dir)]
    subprocess.run([*command, "--yes"], check=True, capture_output=True, timeout=60)


def test_conversations_go_on_being_read(
    server: Server, visitor: MakeVisitor, account: MakeAccount
) -> None:
    ann, bob, cat = account(ANN), account(BOB), account(CAT)
    ann.say("hello from Ann", user=BOB)
    bob.say("hello, Ann", user=ANN)
    cat.say("hello from Cat", user=BOB)
    administer(server, "erase", ANN)
    administer(server, "user", "delete", CAT)

    page = visitor()
    page.enter(BOB)
    page.row("erased-", among="Conversations").click()
    expect(page.page.get_by_text("hello from Ann")).to_be_visible()
    expect(page.page.get_by_text("hello, Ann").first).to_be_visible()
    deleted = page.row("deleted-", among="Conversations")
    expect(deleted).to_contain_text("This message was removed.")
    deleted.click()
    expect(page.page.locator(".text.removed")).to_have_text("This message was removed.")
    expect(page.page.get_by_text("hello from Cat")).to_have_count(0)
    expect(page.page.get_by_text(ANN)).to_have_count(0)
