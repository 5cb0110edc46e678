"""Sessions that end on one server end on all, and no others do, whatever comes late."""

from __future__ import annotations

from typing import Any

import pytest

from chatd.news import SessionsEndedNews
from tests.chat import PASSWORD, User
from tests.cluster.conftest import Late, Post, Team


async def _change_password(user: User, current: str, new: str) -> None:
    body = {"current": current, "new": new}
    answer = await user.call("POST", "/v1/auth/password", body)
    assert answer.status == 200, answer
    user.token = answer.body["token"]


async def test_late_news_of_an_older_password_ends_nothing_of_a_newer_one(
    io_loop: Any, team: Team, post: Post
) -> None:
    """Seen to fail with ``Ended.ends`` asking only whether generations differ."""
    second, third = "staple battery correct", "a third staple battery"
    ann = await team.chats[0].user("ann@example.org")
    post.hold(team.cluster(0), SessionsEndedNews)
    await _change_password(ann, PASSWORD, second)
    there = await team.chats[1].user(ann.email, second)
    await _change_password(there, second, third)
    await team.heard(1)
    async with there.socket() as socket:
        post.release()
        await team.heard(0)
        for chat in team.chats:
            user = await chat.user(ann.email, third)
            assert (await user.call("GET", "/v1/auth/me")).status == 200
        await socket.settle()


async def test_a_socket_that_opens_while_revoked_tokens_are_read_ends_as_well(
    io_loop: Any, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has revoked the token has ended before telling anybody.

    Seen to fail with ``Accounts.catch_up`` asking what lives before it asks the store.
    """
    there = await team.chats[1].user("ann@example.org")
    claims = (await team.apps[0].services.accounts.authenticate(there.token)).claims
    await team.apps[0].storage.revoke_token(claims.token_id, claims.expires_at)
    revoked = Late.put(monkeypatch, team.apps[1].storage, "revoked_tokens")
    team.cluster(1).heard_late()
    await revoked.made.wait()
    async with there.socket() as socket:
        revoked.go.set()
        assert await socket.closed() == 4401


async def test_what_was_read_before_a_change_of_password_ends_nothing_of_the_new_one(
    io_loop: Any, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with ``Ended.ends`` asking only whether generations differ."""
    ann = await team.chats[0].user("ann@example.org")
    async with ann.socket() as old:
        users = Late.put(monkeypatch, team.apps[0].storage, "users_by_email")
        team.cluster(0).heard_late()
        await users.made.wait()
        await _change_password(ann, PASSWORD, "staple battery correct")
        assert await old.closed() == 4401
        async with ann.socket() as new:
            users.go.set()
            await new.settle()
