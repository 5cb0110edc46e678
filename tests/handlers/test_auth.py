"""Signing in and up, tokens, passwords."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from chatd.app import App
from chatd.models import User, now_ms
from tests import documented
from tests.chat import PASSWORD, Answer, Chat

chat = documented.chat

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
OTHER = "staple battery correct"


async def sign_in(chat: Chat, email: str, password: str = PASSWORD, **more: Any) -> Answer:
    body = {"email": email, "password": password}
    return await chat.call("POST", "/v1/auth/sign-in", body, **more)


async def status_of(chat: Chat, token: str) -> int:
    """What a token is worth: 200 or 401."""
    return (await chat.call("GET", "/v1/auth/me", token=token)).status


def assert_unauthenticated(answer: Answer, code: str = "unauthenticated") -> None:
    assert (answer.status, answer.body["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def assert_rate_limited(answer: Answer) -> None:
    assert (answer.status, answer.body["code"]) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) >= 1


# -- signing in and up -------------------------------------------------------------------------


async def test_the_first_sign_in_makes_the_account_and_the_next_finds_it(
    io_loop: Any, chat: Chat
) -> None:
    first = await sign_in(chat, "ann@example.org")
    assert first.status == 201
    assert set(first.body) == {"token", "token_type", "expires_in", "user"}
    assert first.body["token_type"] == "Bearer"
    assert first.body["expires_in"] == 43_200
    assert set(first.body["user"]) == {"id", "email", "created_at"}
    assert first.body["user"]["email"] == "ann@example.org"
    assert TIME.fullmatch(first.body["user"]["created_at"])
    second = await sign_in(chat, "ann@example.org")
    assert second.status == 200
    assert set(second.body) == set(first.body)
    assert second.body["user"] == first.body["user"]
    assert second.body["token"] != first.body["token"]


async def test_every_spelling_of_an_address_is_one_account(io_loop: Any, chat: Chat) -> None:
    ann = (await sign_in(chat, "ann@example.org")).body["user"]
    for spelling in ("  ann@example.org ", "Ann@Example.ORG", "ａｎｎ@example.org"):
        again = await sign_in(chat, spelling)
        assert (again.status, again.body["user"]) == (200, ann)


async def test_what_is_no_address_is_refused(io_loop: Any, chat: Chat) -> None:
    for email in ("", "ann", "ann@", "@example.org", "a b@example.org", "a@b@c", "a\0@example.org"):
        answer = await sign_in(chat, email)
        assert (answer.status, answer.body["errors"][0]["field"]) == (422, "email")


async def test_a_wrong_password_is_refused(io_loop: Any, chat: Chat) -> None:
    await sign_in(chat, "ann@example.org")
    assert_unauthenticated(await sign_in(chat, "ann@example.org", OTHER), "bad_credentials")


async def test_a_long_password_counts_to_its_last_character(io_loop: Any, chat: Chat) -> None:
    longest = "пароль→" * 18 + "ab"
    assert len(longest) == 128
    assert (await sign_in(chat, "ann@example.org", longest)).status == 201
    assert (await sign_in(chat, "ann@example.org", longest[:-1] + "c")).status == 401
    assert (await sign_in(chat, "ann@example.org", longest)).status == 200


async def test_what_can_be_no_password_is_refused_and_not_repeated(
    io_loop: Any, chat: Chat
) -> None:
    for password in ("", "7 chars", "x" * 129, "with a NUL\0"):
        answer = await sign_in(chat, "ann@example.org", password)
        assert (answer.status, answer.body["code"]) == (422, "invalid")
        assert [one["field"] for one in answer.body["errors"]] == ["password"]
        assert not password or password not in str(answer.body)


async def test_first_sign_ins_at_the_same_time_make_one_account(io_loop: Any, chat: Chat) -> None:
    answers = await asyncio.gather(*(sign_in(chat, "ann@example.org") for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 201]
    assert len({answer.body["user"]["id"] for answer in answers}) == 1


@pytest.mark.settings(auth__signup="closed")
async def test_where_sign_up_is_closed_only_those_with_an_account_get_in(
    io_loop: Any, server: App, chat: Chat
) -> None:
    refused = await sign_in(chat, "eve@example.org")
    assert (refused.status, refused.body["code"]) == (403, "signup_closed")
    password_hash = await server.building.passwords.hash(PASSWORD)
    ann = User("u1", "ann@example.org", password_hash, created_at=now_ms())
    await server.storage.create_user(ann)
    assert (await sign_in(chat, "ann@example.org")).status == 200


@pytest.mark.settings(auth__signup="domains", auth__signup_domains=["corp.example"])
async def test_sign_up_may_be_for_some_domains_only(io_loop: Any, chat: Chat) -> None:
    assert (await sign_in(chat, "ann@Corp.Example")).status == 201
    for stranger in ("eve@example.org", "eve@sub.corp.example", "eve@notcorp.example"):
        refused = await sign_in(chat, stranger)
        assert (refused.status, refused.body["code"]) == (403, "signup_closed")


# -- limits ------------------------------------------------------------------------------------


@pytest.mark.settings(limits__sign_in_failures_per_minute=2)
async def test_wrong_passwords_are_limited_for_each_account(io_loop: Any, chat: Chat) -> None:
    for _ in range(4):
        assert (await sign_in(chat, "ann@example.org")).status in (200, 201)
    for _ in range(2):
        assert (await sign_in(chat, "ann@example.org", OTHER)).status == 401
    assert_rate_limited(await sign_in(chat, "ann@example.org", OTHER))
    assert_rate_limited(await sign_in(chat, "Ann@example.org"))
    assert (await sign_in(chat, "bob@example.org")).status == 201


@pytest.mark.settings(limits__sign_in_failures_per_minute=1)
async def test_wrong_passwords_count_when_changing_the_password_too(
    io_loop: Any, chat: Chat
) -> None:
    ann = await chat.user("ann@example.org")
    change = {"current": OTHER, "new": OTHER}
    assert_unauthenticated(await ann.call("POST", "/v1/auth/password", change), "bad_credentials")
    assert_rate_limited(await ann.call("POST", "/v1/auth/password", change))


@pytest.mark.settings(limits__sign_in_per_minute=2)
async def test_sign_ins_are_limited_for_each_network_address(io_loop: Any, chat: Chat) -> None:
    assert (await sign_in(chat, "ann@example.org")).status == 201
    assert (await sign_in(chat, "ann@example.org")).status == 200
    assert_rate_limited(await sign_in(chat, "bob@example.org"))
    # Anybody can write this header: only a listed proxy is believed.
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    assert_rate_limited(await sign_in(chat, "bob@example.org", headers=forwarded))


@pytest.mark.settings(limits__sign_in_per_minute=1, server__trusted_proxies=["127.0.0.0/8"])
async def test_behind_a_listed_proxy_the_clients_own_address_counts(
    io_loop: Any, chat: Chat
) -> None:
    for address in ("192.0.2.1", "192.0.2.2, 127.0.0.9"):
        forwarded = {"X-Forwarded-For": address}
        assert (await sign_in(chat, "ann@example.org", headers=forwarded)).status in (200, 201)
    assert_rate_limited(
        await sign_in(chat, "ann@example.org", headers={"X-Forwarded-For": "10.1.1.1, 192.0.2.2"})
    )


# -- tokens ------------------------------------------------------------------------------------


async def test_me_tells_the_user_and_the_tokens_times(io_loop: Any, chat: Chat) -> None:
    signed_in = (await sign_in(chat, "ann@example.org")).body
    me = await chat.call("GET", "/v1/auth/me", token=signed_in["token"])
    assert me.status == 200
    assert set(me.body) == {"id", "email", "created_at", "issued_at", "expires_at"}
    assert {name: me.body[name] for name in signed_in["user"]} == signed_in["user"]
    assert TIME.fullmatch(me.body["issued_at"])
    assert me.body["issued_at"] < me.body["expires_at"]


async def test_a_fresh_token_leaves_the_old_one_good(io_loop: Any, chat: Chat) -> None:
    signed_in = (await sign_in(chat, "ann@example.org")).body
    fresh = await chat.call("POST", "/v1/auth/token", token=signed_in["token"])
    assert fresh.status == 200
    assert {**fresh.body, "token": ""} == {**signed_in, "token": ""}
    assert fresh.body["token"] != signed_in["token"]
    for token in (signed_in["token"], fresh.body["token"]):
        assert await status_of(chat, token) == 200


async def test_what_is_no_token_is_refused(io_loop: Any, chat: Chat) -> None:
    for header in ("", "Bearer", "Bearer ", "Basic YW5uOmFubg==", "Bearer x", "Bearer a.b.c"):
        answer = await chat.call("GET", "/v1/auth/me", headers={"Authorization": header})
        assert_unauthenticated(answer)


async def test_the_scheme_may_be_written_in_any_case(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    header = {"Authorization": f"bearer {ann.token}"}
    assert (await chat.call("GET", "/v1/auth/me", headers=header)).status == 200


async def test_a_token_in_the_query_is_not_taken_here(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    assert_unauthenticated(await chat.call("GET", f"/v1/auth/me?Authorization={ann.token}"))


async def test_signing_out_ends_this_token_and_no_other(io_loop: Any, chat: Chat) -> None:
    phone, laptop = await chat.user("ann@example.org"), await chat.user("ann@example.org")
    bob = await chat.user("bob@example.org")
    answer = await phone.call("POST", "/v1/auth/sign-out")
    assert (answer.status, answer.body) == (204, None)
    assert_unauthenticated(await phone.call("GET", "/v1/auth/me"))
    assert_unauthenticated(await phone.call("POST", "/v1/auth/token"))
    assert await status_of(chat, laptop.token) == 200
    assert await status_of(chat, bob.token) == 200


# -- passwords ---------------------------------------------------------------------------------


async def test_a_new_password_ends_every_token_but_the_one_it_returns(
    io_loop: Any, chat: Chat
) -> None:
    phone, laptop = await chat.user("ann@example.org"), await chat.user("ann@example.org")
    bob = await chat.user("bob@example.org")
    change = {"current": PASSWORD, "new": OTHER}
    changed = await phone.call("POST", "/v1/auth/password", change)
    assert changed.status == 200
    assert set(changed.body) == {"token", "token_type", "expires_in", "user"}
    assert await status_of(chat, phone.token) == 401
    assert await status_of(chat, laptop.token) == 401
    assert await status_of(chat, changed.body["token"]) == 200
    assert await status_of(chat, bob.token) == 200
    assert_unauthenticated(await sign_in(chat, "ann@example.org"), "bad_credentials")
    assert (await sign_in(chat, "ann@example.org", OTHER)).status == 200


async def test_without_the_current_password_nothing_changes(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    change = {"current": OTHER, "new": OTHER}
    assert_unauthenticated(await ann.call("POST", "/v1/auth/password", change), "bad_credentials")
    assert await status_of(chat, ann.token) == 200
    assert (await sign_in(chat, "ann@example.org")).status == 200


async def test_a_new_password_must_be_one(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    answer = await ann.call("POST", "/v1/auth/password", {"current": PASSWORD, "new": "short"})
    assert (answer.status, answer.body["errors"][0]["field"]) == (422, "new")
    assert (await sign_in(chat, "ann@example.org")).status == 200
