"""Attacks by what is sent: over bodies, queries, paths and frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.chat import Answer, Chat, User
from tests.e2e.attacks.bare import BareSocket, text
from tests.e2e.attacks.well import serving
from tests.e2e.server import Server
from tests.raw import send_raw

DIGITS: Final = "9" * 5000
DEEP: Final = "[" * 100_000
TURNING: Final = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROL: Final = "\x00\x01\b\t\n\v\f\r\x1b\x7f\x80\x85\x9f\u2028\u2029"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(Server(tmp_path_factory.mktemp("server"), unlimited=True)) as server:
        yield server


@pytest.fixture
async def ann(io_loop: Any, chat: Chat) -> User:
    """One who is signed in, beside bob and their group."""
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.call("POST", "/v1/groups", {"name": "python"})
    await bob.join("python")
    return ann


def assert_refused(answer: Answer, *codes: str, field: str | None = None) -> None:
    """A problem that says clearly what is wrong, and where."""
    assert 400 <= answer.status < 500, answer
    assert answer.headers["Content-Type"] == "application/problem+json", answer
    problem = answer.body
    assert problem["status"] == answer.status
    assert problem["code"] in codes, problem
    assert len(problem["detail"]) > 10
    assert problem["request_id"]
    if field is not None:
        assert field in [error["field"] for error in problem["errors"]], problem


# -- bodies ------------------------------------------------------------------------------------

MESSAGES: Final = "/v1/users/bob@example.org/messages"
RECEIPTS: Final = "/v1/groups/python/receipts"
SIGN_IN: Final = "/v1/auth/sign-in"

NO_JSON: Final = (
    DEEP[: len(DEEP) // 2],
    '{"text":' * 8000,
    '{"text":' + "[" * 30_000 + "]" * 30_000 + "}",
    '{"text":NaN}',
    '{"text":Infinity}',
    '{"text":-Infinity}',
    '{"text":' + DIGITS + "}",
    '{"text":-' + DIGITS + "}",
    '{"text":"\x00"}',
    '{"text":"\n"}',
    '{"text":"\\x"}',
    '{"text":"\\u12"}',
    "{'text':'x'}",
    '{"text":"x",}',
    '{"text":"x"}{"text":"y"}',
    '{"text":"x"}\x00',
    '{text:"x"}',
    "/**/{}",
    "\ufeff{}",
    "",
    " ",
)
"""Neither a body nor a frame."""

WRONG_TYPES: Final = (
    *("null", "true", "1", "1.5", "[]", '["x"]', "{}", '{"$gt":""}', "1e400", "-0"),
    str(2**63),
    "9" * 4000,
    "[" * 500 + "]" * 500,
)
"""JSON, and no text."""

WRONG_SEQS: Final = (
    *("null", "true", '"1"', "1.5", "[]", "[1]", "{}", "-1", "1e400", "1e-400", "1e15"),
    *(str(number) for number in (2**53, 2**63, 2**64, -(2**63), 10**400)),
)
"""JSON, and no place in a conversation: there is no message yet."""


async def test_what_is_no_json_is_refused(io_loop: Any, chat: Chat, ann: User) -> None:
    """Seen to fail with NaN for a number."""
    for path in (MESSAGES, RECEIPTS, SIGN_IN, "/v1/groups", "/v1/auth/password"):
        for raw in NO_JSON:
            answer = await ann.call("POST", path, raw=raw.encode())
            assert_refused(answer, "bad_json")
        for raw_bytes in (b"\xff", b'{"text":"\xc0\x80"}', b'{"text":"\xed\xa0\x80"}', b"\x1f\x8b"):
            assert_refused(await ann.call("POST", path, raw=raw_bytes), "bad_json")
        for encoding in ("utf-16", "utf-32"):
            assert_refused(await ann.call("POST", path, raw="{}".encode(encoding)), "bad_json")
        for raw in ("[]", "[" * 50 + "]" * 50, "null", "1", '"x"', "true", '[{"text":"x"}]'):
            assert_refused(await ann.call("POST", path, raw=raw.encode()), "invalid", field="")
    assert_refused(await ann.call("POST", MESSAGES, raw=DEEP.encode()), "too_large")


async def test_a_field_of_another_type_is_named(io_loop: Any, chat: Chat, ann: User) -> None:
    """Seen to fail with bodies that are bent into shape."""
    for path, good, name in (
        (MESSAGES, {}, "text"),
        (MESSAGES, {"text": "x"}, "client_id"),
        (SIGN_IN, {"password": "correct horse"}, "email"),
        (SIGN_IN, {"email": ann.email}, "password"),
        ("/v1/groups", {}, "name"),
        ("/v1/groups", {"name": "wrong-title"}, "title"),
        ("/v1/auth/password", {"new": "correct horse"}, "current"),
    ):
        for value in WRONG_TYPES:
            if value == "null" and name in ("client_id", "title"):
                continue
            body = json.dumps(good)[:-1] + (", " if good else "") + f'"{name}": {value}}}'
            answer = await ann.call("POST", path, raw=body.encode())
            assert_refused(answer, "invalid", field=name)
    for value in WRONG_SEQS[1:]:
        for name in ("delivered_seq", "read_seq"):
            answer = await ann.call("POST", RECEIPTS, raw=f'{{"{name}": {value}}}'.encode())
            assert_refused(answer, "invalid", field=name)
    for name in (
        "x",
        "__proto__",
        "constructor",
        "$where",
        "Text",
        "from",
        "id",
        "seq",
        "\x00",
        "",
    ):
        answer = await ann.call("POST", MESSAGES, {"text": "x", name: 1})
        assert_refused(answer, "invalid", field=name)
    half = await ann.call("POST", MESSAGES, raw=b'{"text":"x","\\ud800":1}')
    assert_refused(half, "invalid", "bad_json")
    # Of two that are called alike the last counts, over REST as in frames.
    twice = await ann.call("POST", MESSAGES, raw=b'{"text":5,"text":"the last"}')
    assert (twice.status, twice.body["text"]) == (201, "the last")
    last = await ann.call("POST", MESSAGES, raw=b'{"text":"x","text":5}')
    assert_refused(last, "invalid", field="text")


async def test_names_hold_nothing_that_is_not_seen(io_loop: Any, chat: Chat, ann: User) -> None:
    """Seen to fail with titles that may turn what stands beside them."""
    for character in (*CONTROL, *TURNING, "\ud800", "\udfff"):
        broken = f"a{character}b"
        for path, body, name in (
            ("/v1/groups", {"name": broken}, "name"),
            ("/v1/groups", {"name": "titled", "title": broken}, "title"),
            (MESSAGES, {"text": "x", "client_id": broken}, "client_id"),
            (SIGN_IN, {"email": f"{broken}@example.org", "password": "x" * 20}, "email"),
            (SIGN_IN, {"email": f"a@{broken}.org", "password": "x" * 20}, "email"),
        ):
            answer = await ann.call("POST", path, body)
            assert_refused(answer, "invalid", "bad_json", field=name)
    for character in ("\x00", "\ud800", "\udfff"):
        answer = await ann.call(
            "POST", SIGN_IN, {"email": "c@d.org", "password": f"{character}" * 9}
        )
        assert_refused(answer, "invalid", field="password")
        answer = await ann.call("POST", MESSAGES, {"text": f"a{character}b"})
        assert_refused(answer, "invalid", "bad_json", field="text")
    for length in (65, 10_000):
        body = {"text": "x", "client_id": "x" * length}
        assert_refused(await ann.call("POST", MESSAGES, body), "invalid", field="client_id")
    for text_ in ("", " ", "\u3000", "x" * 4001, "😀" * 4001):
        answer = await ann.call("POST", MESSAGES, {"text": text_})
        assert_refused(answer, "invalid", field="text")


ANY_TEXT: Final = (
    "".join(character for character in CONTROL if character != "\x00") + "x",
    f"{TURNING}abc",
    "\ufeff\ufffe\uffff\U0010ffff x",
    "👨‍👩‍👧‍👦" * 300,
    "Z" + "\u0301\u0316" * 1999,
    "ﷺ" * 4000,
    "<script>alert(1)</script><!--]]>--!><img src=x onerror=alert(1)>",
    "'; DROP TABLE messages; --",
    '{"$where":"sleep(1000)"}',
    "%00%0d%0a%2e%2e%s%n{0}{{7*7}}${7*7}",
    "\\ud800\\u0000\\",
    "é e\u0301 \u212b",
)
"""What a text may be, and has to stay."""


async def test_any_text_comes_back_unchanged(io_loop: Any, chat: Chat, ann: User) -> None:
    """Seen to fail with texts in their normal form."""
    bob = await chat.user("bob@example.org")
    async with bob.socket() as socket:
        for sent in ANY_TEXT:
            over_rest = await ann.say(sent, group="python")
            assert over_rest["text"] == sent
            frame = await socket.next("message", where=lambda one: one["id"] == over_rest["id"])  # noqa: B023
            assert frame["text"] == sent
            answer = await bob.call("GET", f"/v1/messages/{over_rest['id']}")
            assert answer.body["text"] == sent


# -- frames ------------------------------------------------------------------------------------


UNREADABLE: Final = ("invalid", "bad_json")
"""The codes for a value of another type: the decoder may find it too deep, or too long, first."""


class Asking:
    """A socket on which each frame has its one answer."""

    def __init__(self, client: BareSocket) -> None:
        self._client = client

    async def error(self, frame: str | bytes) -> dict[str, Any]:
        """The error that answers this; a good frame behind it keeps the socket."""
        await self._client.send(text(frame) + text('{"type":"ping"}'))
        *errors, _ = await self._client.json_until("pong")
        (error,) = [one for one in errors if one["type"] == "error"]
        assert len(error["message"]) > 10
        return error

    async def refused(self, frame: str, name: str, *codes: str) -> None:
        """It must be, with one of these codes (``invalid``), naming this."""
        error = await self.error(frame)
        assert error["code"] in (codes or ("invalid",)), (frame[:80], error)
        assert name in error["message"], (frame[:80], error)


async def test_what_is_no_frame_is_refused(io_loop: Any, chat: Chat, ann: User) -> None:
    """Seen to fail with a wrong type that is one wrong field among others."""
    async with BareSocket(chat.url) as client:
        asking = Asking(await client.open(ann.token))
        # The decoder looks at the type first: what is behind it may be anything at all.
        for junk in (*NO_JSON, *WRONG_TYPES, DIGITS, "{}", '{"type":null}', '{"type":["send"]}'):
            short = junk[:30_000]
            assert (await asking.error(short))["code"] in ("bad_json", "bad_request"), short[:60]
        kinds = (
            "",
            "SEND",
            "send ",
            "sent",
            "hello",
            "message",
            "error",
            "__proto__",
            "x" * 30_000,
        )
        for kind in kinds:
            error = await asking.error(json.dumps({"type": kind, "text": "x"}))
            assert error["code"] == "bad_request", kind[:60]


async def test_a_field_of_a_frame_that_is_wrong_is_named(
    io_loop: Any, chat: Chat, ann: User
) -> None:
    """Seen to fail with frames that take fields they don't know."""
    to = '"to":"bob@example.org"'
    async with BareSocket(chat.url) as client:
        refused = Asking(await client.open(ann.token)).refused
        for value in WRONG_TYPES:
            await refused(f'{{"type":"send",{to},"text":{value}}}', "", *UNREADABLE)
            await refused(f'{{"type":"auth","token":{value}}}', "", *UNREADABLE)
            # Any of these may be null, but not all.
            for name in ("to", "group", "client_id"):
                await refused(f'{{"type":"send","text":"x","{name}":{value}}}', "", *UNREADABLE)
        for value in WRONG_SEQS:
            for kind in ("read", "received"):
                frame = f'{{"type":"{kind}","group":"python","seq":{value}}}'
                await refused(frame, "", *UNREADABLE)


async def test_a_character_of_a_frame_that_is_wrong_is_refused(
    io_loop: Any, chat: Chat, ann: User
) -> None:
    """Seen to fail with a ``client_id`` of any characters."""
    to = '"to":"bob@example.org"'
    async with BareSocket(chat.url) as client:
        refused = Asking(await client.open(ann.token)).refused
        for name in ("x", "__proto__", "from", "id", "seq", "sent_at", "\x00", "x" * 20_000):
            frame = json.dumps({"type": "send", "to": "bob@example.org", "text": "x", name: 1})
            await refused(frame, name)
        for character in (*CONTROL, *TURNING):
            broken = {"type": "send", "to": "bob@example.org", "text": "x", "client_id": character}
            await refused(json.dumps(broken), "client_id")
        for half in ("\\ud800", "\\udfff", "\\ud83d", "\\ud800\\ud800"):
            await refused(f'{{"type":"send",{to},"text":"{half}"}}', "", "bad_json")
            await refused(f'{{"type":"send","to":"{half}","text":"x"}}', "", "bad_json")
        for bad in ("", " ", "a\\u0000b", "x" * 4001):
            await refused(f'{{"type":"send",{to},"text":"{bad}"}}', "text")
        await refused(f'{{"type":"send",{to},"text":"x","text":5}}', "text")
        await refused('{"type":"send","type":"ping","text":"x"}', "", "invalid", "bad_request")


# -- queries, paths, methods -------------------------------------------------------------------


async def test_odd_queries_and_paths_lead_nowhere(io_loop: Any, chat: Chat, ann: User) -> None:
    """Seen to fail with arguments that may stand twice."""
    host = chat.url.removeprefix("http://")

    async def answer(target: str, method: str = "GET") -> Answer:
        lines = (
            f"{method} {target} HTTP/1.1",
            f"Host: {host}",
            f"Authorization: Bearer {ann.token}",
        )
        return await send_raw(chat.url, "\n".join(lines))

    for argument, name in (
        *(
            (f"limit={value}", "limit")
            for value in ("", "x", "0", "-1", "1.5", "0x1", "201", "1e1")
        ),
        *((f"limit={value}", "limit") for value in (DIGITS, str(2**63), "1" + "0" * 400, "NaN")),
        ("limit=1&limit=2", "limit"),
        ("online=maybe", "online"),
        (f"prefix={'x' * 255}", "prefix"),
        ("after=%21%21", "after"),
        ("after=" + "x" * 1001, "after"),
        ("after=bnVsbA", "after"),
        ("surplus=1", "surplus"),
        ("%00=1", "\x00"),
    ):
        assert_refused(await answer(f"/v1/users?{argument}"), "invalid", field=name)
    for query in ("limit=%FF", "%FF=1", "prefix=%ED%A0%80", "prefix=%C0%AE", "=", "limit=1;x=2"):
        assert_refused(await answer(f"/v1/users?{query}"), "invalid", "bad_request")
    for seq in ("-1", str(2**53), DIGITS, "1.5", "one"):
        path = f"/v1/groups/python/messages?after_seq={seq}"
        assert_refused(await answer(path), "invalid", field="after_seq")
    for odd in ("%00", "%FF", "%ED%A0%80", "%C0%AE%C0%AE", "..", "%2e%2e", "%2E%2E%2F%2E%2E", "%"):
        for path in (f"/v1/users/{odd}", f"/v1/groups/{odd}/messages", f"/v1/messages/{odd}"):
            absent = ("unknown_user", "unknown_group", "unknown_message", "not_found")
            assert_refused(await answer(path), *absent, "bad_request")
    for path in (
        *("/static/../conf/chatd.toml", "/static/%2e%2e/%2e%2e/conf/chatd.toml", "/static/..%2f"),
        *("/static//etc/passwd", "/static/chat/%00.js", "/static/\\..\\..", "/docs/assets/../x"),
        *("/static/chat/../../settings.py", "/static/%252e%252e/x", "/../../etc/passwd", "//"),
        *(
            "/v1/users/",
            "/v1//users",
            "/V1/users",
            "/v1/users;x=1",
            "/v1/users/a/b/c",
            "/.git/config",
        ),
    ):
        assert_refused(await answer(path), "not_found")
    for name in ("%F0%9F%98%80" * 1000, "x" * 12_000, "%CC%81%CC%96" * 1000):
        assert_refused(await answer(f"/v1/users/{name}"), "unknown_user")
        assert_refused(await answer(f"/v1/groups/{name}"), "unknown_group")


async def test_odd_methods_and_kinds_of_bodies_are_refused(
    io_loop: Any, chat: Chat, ann: User
) -> None:
    """Seen to fail with bodies of any kind read as JSON."""
    host = chat.url.removeprefix("http://")
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X"):
        for path in ("/v1/users", "/chat", "/v1/ws", "/docs", "/static/chat/main.js"):
            request = f"{method} {path} HTTP/1.1\nHost: {host}\nContent-Length: 0"
            answer = await send_raw(chat.url, request)
            assert answer.status in (400, 404, 405), (method, path, answer)
            if answer.status == 405:
                assert_refused(answer, "method_not_allowed")
                assert answer.headers["Allow"]
    good = json.dumps({"name": "by-another-kind"}).encode()
    for kind in (
        *("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
        *(
            "application/jsonx",
            "text/json",
            "application/xml",
            "application/json\t;",
            "*/*",
            "json",
        ),
        *("application/json, text/plain", "text/plain; application/json", "é"),
    ):
        if kind == "application/json\t;":
            continue
        answer = await ann.call("POST", "/v1/groups", raw=good, headers={"Content-Type": kind})
        assert_refused(answer, "unsupported_media_type")
    for encoding in ("gzip", "deflate", "br"):
        headers = {"Content-Encoding": encoding}
        answer = await ann.call("POST", "/v1/groups", raw=b"\x1f\x8b\x08", headers=headers)
        assert_refused(answer, "bad_json", "unsupported_media_type", "bad_request")
