"""Attacks on signing in: guessing, locking others out, accounts by the thousand, odd bodies.

Clients come through a proxy that the server trusts, so that one test can be many addresses.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from passlib.hash import argon2

from tests.chat import PASSWORD, Answer, Chat, User
from tests.e2e.attacks.well import assert_well, events, serving
from tests.e2e.conftest import MakeServer
from tests.e2e.server import Server

SIGN_IN, CHANGE = "/v1/auth/sign-in", "/v1/auth/password"
WRONG = "wrong horse battery"
TRUSTED = {"CHATD_SERVER__TRUSTED_PROXIES": "127.0.0.0/8"}
PER_MINUTE = 20
FAILURES_PER_MINUTE = 15
LIMITS = {
    **TRUSTED,
    "CHATD_LIMITS__SIGN_IN_PER_MINUTE": str(PER_MINUTE),
    "CHATD_LIMITS__SIGN_IN_FAILURES_PER_MINUTE": str(FAILURES_PER_MINUTE),
}
NewAddress = Callable[[], str]


def serve(factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Server]:
    with serving(Server(factory.mktemp("sign_in"), environment=environment)) as server:
        yield server


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without limits that a test might meet by itself."""
    free = {"CHATD_LIMITS__SIGN_IN_FAILURES_PER_MINUTE": "0"}
    yield from serve(tmp_path_factory, {**TRUSTED, **free})


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serve(tmp_path_factory, LIMITS)


@pytest.fixture
def chat(open_server: Server) -> Iterator[Chat]:
    chat = Chat(open_server.url)
    yield chat
    chat.close()


@pytest.fixture
def limited(limited_server: Server) -> Iterator[Chat]:
    chat = Chat(limited_server.url)
    yield chat
    chat.close()


@pytest.fixture(scope="module")
def new_address() -> NewAddress:
    """Addresses that nobody has come from, and that no limit knows."""
    numbers = count(1)
    return lambda: f"203.0.113.{next(numbers)}"


async def sign_in(
    chat: Chat, email: object, password: object = PASSWORD, *, at: str = "192.0.2.1"
) -> Answer:
    body = {"email": email, "password": password}
    return await chat.call("POST", SIGN_IN, body, headers={"X-Forwarded-For": at})


def code(answer: Answer) -> tuple[int, str | None]:
    return answer.status, (answer.body or {}).get("code")


def without_ids(answer: Answer) -> tuple[int, object, dict[str, str]]:
    """All that was answered, but for what is of this one request."""
    body = {k: v for k, v in answer.body.items() if k != "request_id"}
    own = ("X-Request-Id", "Date")
    return answer.status, body, {k: v for k, v in answer.headers.items() if k not in own}


# -- guessing ----------------------------------------------------------------------------------


async def test_a_401_is_alike_whatever_was_wrong(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with the time in the sentence of `_bad_credentials`, accounts.py."""
    await sign_in(chat, "alike@example.org")
    taken = [sign_in(chat, "taken@example.org", f"{PASSWORD} {n}") for n in range(4)]
    ann = await chat.user("alike@example.org")
    wrong = [
        await sign_in(chat, "alike@example.org", password)
        for password in (WRONG, PASSWORD + " ", PASSWORD.upper(), PASSWORD * 2, "\u202e" * 8)
    ]
    wrong += [one for one in await asyncio.gather(*taken) if one.status != 201]
    wrong += [
        await sign_in(chat, "ALIKE@example.org", WRONG, at="192.0.2.99"),
        await sign_in(chat, "alike@example.org", WRONG, at="not an address"),
        await ann.call("POST", CHANGE, {"current": WRONG, "new": "something else"}),
    ]
    assert len(wrong) == 5 + 3 + 3
    first = without_ids(wrong[0])
    assert (first[0], wrong[0].body["code"]) == (401, "bad_credentials")
    assert "WWW-Authenticate" in wrong[0].headers
    assert [without_ids(one) for one in wrong] == [first] * len(wrong)
    ids = {one.body["request_id"] for one in wrong}
    assert len(ids) == len(wrong)
    assert {len(json.dumps(one.body)) for one in wrong} == {len(json.dumps(wrong[0].body))}


async def test_who_guesses_is_told_when_to_come_back_and_then_may(
    io_loop: Any, limited: Chat, new_address: NewAddress
) -> None:
    """The limit of an account and that of an address, neither for ever.

    Seen to fail with 1 for every Retry-After, in base.py.
    """
    await sign_in(limited, "ann@example.org", at=new_address())
    guesses = [
        await sign_in(limited, spelling, f"{WRONG} {n}", at=new_address())
        for n, spelling in enumerate(["ann@example.org", " Ann@Example.org"] * FAILURES_PER_MINUTE)
    ]
    stranger, refused = new_address(), guesses[-1]
    assert code(guesses[0]) == (401, "bad_credentials")
    assert code(refused) == (429, "rate_limited")
    # Right and wrong are not told apart any more, nor does it cost the account anything.
    assert code(await sign_in(limited, "ann@example.org", at=stranger)) == (429, "rate_limited")
    refused = await sign_in(limited, "ann@example.org", WRONG, at=stranger)

    crowded = new_address()
    crowd = [sign_in(limited, f"new{n}@example.org", at=crowded) for n in range(PER_MINUTE + 5)]
    answers = await asyncio.gather(*crowd)
    assert {code(one) for one in answers} == {(201, None), (429, "rate_limited")}
    assert sum(one.status == 201 for one in answers) >= PER_MINUTE
    full = await until_refused(limited, crowded)

    for answer, who, address in (
        (full, "new0@example.org", crowded),
        (refused, "ann@example.org", stranger),
    ):
        seconds = int(answer.headers["Retry-After"])
        assert seconds >= 1
        await asyncio.sleep(seconds)
        assert (await sign_in(limited, who, at=address)).status == 200


async def is_refused(chat: Chat, email: str, password: str = PASSWORD, *, at: str) -> bool:
    """Whether there is no coming in now, but for one every few seconds, which may be just now."""
    tries = await asyncio.gather(*(sign_in(chat, email, password, at=at) for _ in range(8)))
    return sum(code(one) == (429, "rate_limited") for one in tries) > 4


async def until_refused(chat: Chat, address: str) -> Answer:
    """Sign in until that is too often."""
    while (answer := await sign_in(chat, "new0@example.org", at=address)).status == 200:
        pass
    assert code(answer) == (429, "rate_limited")
    return answer


async def test_who_guesses_locks_nobody_out_of_where_they_have_been(
    io_loop: Any, limited: Chat, new_address: NewAddress
) -> None:
    """Seen to fail with ``known = False`` in accounts.py."""
    home, email = new_address(), "owner@example.org"
    token = (await sign_in(limited, email, at=home)).body["token"]
    for n in range(FAILURES_PER_MINUTE + 5):
        await sign_in(limited, email, f"{WRONG} {n}", at=new_address())
    assert await is_refused(limited, email, at=new_address())
    owner = User(limited, email, token)
    new = "a new one, of the owner's"
    changed = await owner.call("POST", CHANGE, {"current": PASSWORD, "new": new})
    assert changed.status == 200
    assert (await sign_in(limited, email, new, at=home)).status == 200
    # To say that one comes from there takes more than to write it: the proxy's word counts.
    claimed = f"{home}, {new_address()}"
    assert await is_refused(limited, email, new, at=claimed)


async def test_accounts_by_the_thousand_are_refused_by_place(
    io_loop: Any, limited: Chat, new_address: NewAddress
) -> None:
    """One place in IPv6 is the network that one subscriber has: all its addresses count as one.

    Seen to fail with ``_SITE_BITS = 128`` in networks.py.
    """
    sites = (
        [f"2001:db8:0:1:{n:x}::{n:x}" for n in range(2 * PER_MINUTE)],
        [f"::ffff:{new_address()}"] * 2 * PER_MINUTE,
    )
    for number, addresses in enumerate(sites):
        crowd = (
            sign_in(limited, f"many{number}.{n}@example.org", at=address)
            for n, address in enumerate(addresses)
        )
        answers = await asyncio.gather(*crowd)
        assert {code(one) for one in answers} == {(201, None), (429, "rate_limited")}
        # As many as are hashed meanwhile come in through the refill of the bucket.
        assert sum(one.status == 429 for one in answers) >= PER_MINUTE // 2
        assert await is_refused(limited, "many0.0@example.org", at=addresses[0])
    elsewhere = await sign_in(limited, "neighbour@example.org", at="2001:db8:0:2::1")
    assert elsewhere.status == 201
    # Written as IPv6, an address of IPv4 is the same place.
    mapped = sites[1][0].removeprefix("::ffff:")
    assert await is_refused(limited, "many1.0@example.org", at=mapped)


# -- accounts ----------------------------------------------------------------------------------


async def test_first_sign_ins_at_the_same_time_make_one_account(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with what ``create_user`` answers ignored, in accounts.py."""
    spellings = ["first@example.org", " FIRST@Example.ORG ", "ｆｉｒｓｔ@example.org"] * 3
    answers = await asyncio.gather(*(sign_in(chat, one) for one in spellings))
    assert sorted(one.status for one in answers) == [200] * 8 + [201]
    assert len({one.body["user"]["id"] for one in answers}) == 1
    for one in answers:
        assert (await chat.call("GET", "/v1/auth/me", token=one.body["token"])).status == 200


async def test_forms_of_an_address_are_one_account_or_refused(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with NFC in place of NFKC in addresses.py."""
    ann = (await sign_in(chat, "ann@example.org")).body["user"]
    same = (
        "ANN@EXAMPLE.ORG",
        "   ann@example.org  ",
        "Ａｎｎ＠ｅｘａｍｐｌｅ．ｏｒｇ",
        "ａｎｎ@example.org",
        "ªnn@example.org",
        "ann@exa\u006d\u0070le.org",
    )
    for spelling in same:
        answer = await sign_in(chat, spelling)
        assert (answer.status, answer.body["user"]) == (200, ann), spelling
    refused = (
        "ann@example.org.",
        "ann@@example.org",
        '"ann"@example.org',
        "ann(admin)@example.org",
        "<ann@example.org>",
        "ann@example.org\0",
        "ann@example.org\r\nX-Admin: 1",
        "ann\u200b@example.org",
        "\u202eann@example.org",
        "ann@example.org, eve@example.org",
        "ann@[127.0.0.1]",
        "ann@exam ple.org",
        "ann\u00a0@example.org",
        "ann@" + "e" * 300 + ".org",
    )
    for spelling in refused:
        answer = await sign_in(chat, spelling)
        assert code(answer) == (422, "invalid"), spelling
        assert answer.body["errors"][0]["field"] == "email"
    listed = await chat.user("ann@example.org")
    for spelling in same:
        found = await listed.call("GET", f"/v1/users/{quote(spelling)}")
        assert found.status in (200, 404)
        assert found.status == 404 or found.body["id"] == ann["id"]


async def test_a_password_is_8_to_128_characters_of_any_script_and_counts_to_the_last(
    io_loop: Any, chat: Chat
) -> None:
    """Seen to fail with the first 72 bytes hashed, in security.py."""
    longest = "пароль→𝄞" * 16
    assert len(longest) == 128
    assert len(longest.encode()) > 3 * 72
    long = "x" * 72
    for name, password, others in (
        ("longest", longest, [longest[:-1] + "!", longest[:72], longest.encode()[:72].decode()]),
        ("long", f"{long}one", [f"{long}two", long, long + "x"]),
        ("short", "пaроль!!", ["пароль!!"]),
        ("forms", "caf\u00e9 \ufb01n A", ["cafe fin A"]),
        ("spaces", " " * 7 + "x", [" " * 8, "x" + " " * 7]),
    ):
        email = f"{name}@example.org"
        assert (await sign_in(chat, email, password)).status == 201, name
        for other in others:
            assert (await sign_in(chat, email, other)).status == 401, (name, other)
        assert (await sign_in(chat, email, password)).status == 200, name
    # The forms of Unicode that keyboards make are one.
    assert (await sign_in(chat, "forms@example.org", "cafe\u0301 fin \uff21")).status == 200
    for impossible in ("", "7 chars", "x" * 129, "e\u0301" * 7, "with a NUL\0", "é" * 60_000):
        for email in ("impossible@example.org", "short@example.org"):
            answer = await sign_in(chat, email, impossible)
            assert answer.status in (413, 422)
            assert not impossible or impossible not in str(answer.body)


async def test_what_is_guessed_first_is_no_new_password_but_opens_where_it_is_one(
    io_loop: Any, make_server: MakeServer
) -> None:
    """An account of before the list, or of an earlier list, still opens, to be mended.

    Seen to fail with ``_refuse_guessable`` asked of who has an account too, in accounts.py.
    """
    server = make_server()
    chat = Chat(server.start())
    guessable = ("qwertyuiop", "QwertyUiop", "12345678", "ｐａｓｓｗｏｒｄ", "iloveyou")
    own = ("careless@example.org", "CARELESS@example.org", "careless")
    for password in (*guessable, *own):
        refused = await sign_in(chat, "careless@example.org", password)
        assert code(refused) == (422, "invalid"), password
        assert [one["field"] for one in refused.body["errors"]] == ["password"]
        assert password not in str(refused.body)
    careless = await chat.user("careless@example.org")
    for password in (*guessable, *own):
        body = {"current": PASSWORD, "new": password}
        refused = await careless.call("POST", CHANGE, body)
        assert code(refused) == (422, "invalid"), password
        assert [one["field"] for one in refused.body["errors"]] == ["new"]
    # Refused, it changed nothing: the token is good, and so is the password.
    assert (await careless.call("GET", "/v1/auth/me")).status == 200
    await chat.user("careless@example.org")
    # Not told whose current password it isn't: that is asked first.
    body = {"current": WRONG, "new": "qwertyuiop"}
    assert code(await careless.call("POST", CHANGE, body)) == (401, "bad_credentials")

    assert server.terminate() == 0
    set_password(server, "careless@example.org", "qwertyuiop")
    server.restart()
    assert (await sign_in(chat, "careless@example.org", "qwertyuiop")).status == 200
    assert code(await sign_in(chat, "careless@example.org", "12345678"))[0] == 401
    assert_well(server)
    chat.close()


def set_password(server: Server, email: str, password: str) -> None:
    """As an earlier version would have stored it."""
    hashed = argon2.using(type="ID", memory_cost=19_456, time_cost=2, parallelism=1).hash(password)
    with closing(sqlite3.connect(server.data_dir / "chatd.db")) as store, store:
        done = store.execute("UPDATE users SET password_hash = ? WHERE email = ?", (hashed, email))
        assert done.rowcount == 1


@pytest.mark.parametrize(
    ("signup", "may"),
    [
        ({"CHATD_AUTH__SIGNUP": "closed"}, []),
        (
            {"CHATD_AUTH__SIGNUP": "domains", "CHATD_AUTH__SIGNUP_DOMAINS": "corp.example"},
            ["new@corp.example", "New2@CORP.Example", "new3@ｃorp.example"],
        ),
    ],
)
async def test_who_may_not_sign_up_does_not(
    io_loop: Any, make_server: MakeServer, signup: dict[str, str], may: list[str]
) -> None:
    """Seen to fail with ``endswith`` in `SignupPolicy`, accounts.py."""
    server = make_server(environment=signup)
    chat = Chat(server.start())
    strangers = (
        "eve@example.org",
        "eve@notcorp.example",
        "eve@sub.corp.example",
        "eve@corp.example.evil.example",
        "corp.example@evil.example",
        "eve@corp.example\0@evil.example",
        "eve@evil.example@corp.example",
        "eve%corp.example@evil.example",
        "eve@cоrp.example",  # a Cyrillic о
    )
    for stranger in strangers:
        assert code(await sign_in(chat, stranger)) in (
            (403, "signup_closed"),
            (422, "invalid"),
        ), stranger
    for email in may:
        assert (await sign_in(chat, email)).status == 201
    # What was refused was not made either.
    await chat.call("POST", SIGN_IN, {"email": "eve@example.org", "password": PASSWORD})
    logged = [one for one in events(server) if one["event"] == "sign_in.accepted"]
    assert len(logged) == len(may)
    assert_well(server)
    chat.close()


# -- bodies ------------------------------------------------------------------------------------

EMAIL = '"email": "json@example.org"'
SECRET = "s3cret-s3cret"

BODIES: dict[str, tuple[bytes, str, int]] = {
    "nothing": (b"", "application/json", 400),
    "a list": (b'[["email", "a"]]', "application/json", 422),
    "null": (b"null", "application/json", 422),
    "a list of passwords": (
        f'{{{EMAIL}, "password": ["{PASSWORD}", "{SECRET}"]}}'.encode(),
        "application/json",
        422,
    ),
    "an operator": (f'{{{EMAIL}, "password": {{"$ne": ""}}}}'.encode(), "application/json", 422),
    "a list of addresses": (
        f'{{"email": ["a@b.example"], "password": "{SECRET}"}}'.encode(),
        "application/json",
        422,
    ),
    "true": (f'{{{EMAIL}, "password": true}}'.encode(), "application/json", 422),
    "null for a password": (f'{{{EMAIL}, "password": null}}'.encode(), "application/json", 422),
    "a number": (f'{{{EMAIL}, "password": 1234567890}}'.encode(), "application/json", 422),
    "not a number": (f'{{{EMAIL}, "password": NaN}}'.encode(), "application/json", 400),
    "a huge number": (
        f'{{{EMAIL}, "password": {"9" * 20_000}}}'.encode(),
        "application/json",
        400,
    ),
    "a surrogate": (
        f'{{{EMAIL}, "password": "{SECRET}\\ud800"}}'.encode(),
        "application/json",
        422,
    ),
    "a surrogate in the address": (
        f'{{"email": "\\udfff@example.org", "password": "{SECRET}"}}'.encode(),
        "application/json",
        422,
    ),
    "one field more": (
        f'{{{EMAIL}, "password": "{PASSWORD}", "is_admin": true}}'.encode(),
        "application/json",
        422,
    ),
    "a prototype": (
        f'{{{EMAIL}, "password": "{PASSWORD}", "__proto__": {{}}}}'.encode(),
        "application/json",
        422,
    ),
    "an id of one's own": (
        f'{{{EMAIL}, "password": "{PASSWORD}", "id": "1", "generation": 7}}'.encode(),
        "application/json",
        422,
    ),
    "deep": (b'{"email": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "application/json", 400),
    "cut off": (f'{{{EMAIL}, "password": "{SECRET}'.encode(), "application/json", 400),
    "two bodies": (
        f'{{{EMAIL}, "password": "{PASSWORD}"}}{{"x": 1}}'.encode(),
        "application/json",
        400,
    ),
    "UTF-16": (
        f'{{{EMAIL}, "password": "{PASSWORD}"}}'.encode("utf-16"),
        "application/json",
        400,
    ),
    "Latin-1": (f'{{{EMAIL}, "password": "é{SECRET}"}}'.encode("latin-1"), "application/json", 400),
    "a byte order mark": (
        b"\xef\xbb\xbf" + f'{{{EMAIL}, "password": "{PASSWORD}"}}'.encode(),
        "application/json",
        400,
    ),
    "comments": (
        f'{{{EMAIL}, "password": "{PASSWORD}" /* */}}'.encode(),
        "application/json",
        400,
    ),
    "a form": (
        b"email=json%40example.org&password=correct+horse+battery",
        "application/x-www-form-urlencoded",
        415,
    ),
    "text": (f'{{{EMAIL}, "password": "{PASSWORD}"}}'.encode(), "text/plain", 415),
    "XML": (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', "application/xml", 415),
    "JSON compressed": (b"\x1f\x8b\x08\x00", "application/json", 400),
    "too much": (b" " * 70_000, "application/json", 413),
}


async def test_no_body_but_an_address_and_a_password_signs_in(io_loop: Any, chat: Chat) -> None:
    """Nor does any cost more than a clear refusal, or come back in it.

    Seen to fail with ``extra="ignore"`` for `Body` in schemas.py.
    """
    await sign_in(chat, "json@example.org")
    for name, (body, content_type, status) in BODIES.items():
        headers = {"Content-Type": content_type}
        answer = await chat.call("POST", SIGN_IN, raw=body, headers=headers)
        assert answer.status == status, (name, answer)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert SECRET not in str(answer.body), name
        assert PASSWORD not in str(answer.body), name
    # Of two passwords the last counts, as everywhere in JSON: never both, never any.
    for passwords, status in ((f'"{WRONG}", "{PASSWORD}"', 200), (f'"{PASSWORD}", "{WRONG}"', 401)):
        first, last = passwords.split(", ")
        twice = f'{{{EMAIL}, "password": {first}, "password": {last}}}'.encode()
        assert (await chat.call("POST", SIGN_IN, raw=twice)).status == status


async def test_signing_in_is_a_post_with_a_body_and_nothing_else(io_loop: Any, chat: Chat) -> None:
    """A password in an address would stand in histories and logs.

    Seen to fail with arguments that mean nothing passed over, in api.py's ``read_query``.
    """
    query = f"?email=json@example.org&password={quote(PASSWORD)}"
    override = {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"}
    body = {"email": "json@example.org", "password": PASSWORD}
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = await chat.call(method, SIGN_IN, body, headers=override)
        assert answer.status == 405, method
        assert answer.headers["Allow"] == "POST"
        assert not [name for name in answer.headers if name.startswith("Access-Control-")]
    for answer in (
        await chat.call("POST", SIGN_IN + query, body),
        await chat.call("POST", f"{SIGN_IN}?_method=GET", body),
    ):
        assert code(answer) == (422, "invalid")
        assert PASSWORD not in str(answer.body)
    basic = {"Authorization": "Basic anNvbkBleGFtcGxlLm9yZzpjb3JyZWN0IGhvcnNlIGJhdHRlcnk="}
    assert (await chat.call("GET", "/v1/auth/me", headers=basic)).status == 401
