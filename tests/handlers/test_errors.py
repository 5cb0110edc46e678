"""How everything is refused: one shape, exact codes, never a 5xx for what a client sends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from chatd.app import App
from tests import documented
from tests.chat import PASSWORD, Answer, Chat, Json, User
from tests.documented import DocumentedChat, Endpoint, OpenApi
from tests.raw import chunked, send_raw

chat = documented.chat

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "MADEUP")
PAGES = ("/", "/docs", "/chat", "/chat/user", "/group/python/connect", "/v1/ws", "/openapi.json")
LIMIT = 65_536


def assert_problem(answer: Answer, status: int, code: str, *fields: str) -> None:
    """It is a problem (RFC 9457) of exactly this kind."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert list(answer.body) == [
        "type",
        "title",
        "status",
        "detail",
        "code",
        "request_id",
        "errors",
    ]
    assert (answer.body["status"], answer.body["code"]) == (status, code)
    assert answer.body["type"] == "about:blank"
    assert answer.body["title"]
    assert answer.body["detail"]
    assert answer.body["request_id"] == answer.headers["X-Request-ID"]
    assert all(set(one) == {"field", "message"} and one["message"] for one in answer.body["errors"])
    assert [one["field"] for one in answer.body["errors"]] == list(fields)


def authorized(user: User, method: str, path: str, *headers: str) -> str:
    """A request's head, line by line."""
    return "\n".join(
        [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {user.token}",
            *headers,
        ]
    )


# -- what no operation allows ------------------------------------------------------------------


async def test_every_operation_but_the_public_ones_needs_a_token(
    io_loop: Any, chat: DocumentedChat
) -> None:
    public = set()
    for endpoint in chat.openapi.endpoints:
        if endpoint.is_public:
            public.add(str(endpoint))
            continue
        for token in (None, "nonsense"):
            answer = await chat.call(endpoint.method, endpoint.url(), endpoint.example, token=token)
            assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="chatd"'
    assert public == {
        "POST /v1/auth/sign-in",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }


async def test_other_methods_are_refused_with_those_that_are_allowed(
    io_loop: Any, chat: DocumentedChat
) -> None:
    ann = await chat.user("ann@example.org")
    paths = {endpoint.url() for endpoint in chat.openapi.endpoints} | set(PAGES)
    for path in paths:
        allowed = set(chat.openapi.at(path)) or {"GET"}
        for method in set(METHODS) - allowed:
            answer = await ann.call(method, path)
            assert_problem(answer, 405, "method_not_allowed")
            assert set(answer.headers["Allow"].split(", ")) == allowed


async def test_where_nothing_is_it_says_so(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await chat.user("ann@example.org")
    for path in ("/nothing", "/v1", "/v1/", "/v1/users/", "/v1/groups/a/b/c", "/V1/users", "//"):
        for method in ("GET", "POST"):
            assert_problem(await ann.call(method, path), 404, "not_found")


async def test_a_foreign_host_is_refused_everywhere(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await chat.user("ann@example.org")
    paths = {endpoint.url() for endpoint in chat.openapi.endpoints if endpoint.method == "GET"}
    for path in paths | {*PAGES, "/static/chat.js", "/nothing"}:
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.2"):
            answer = await ann.call("GET", path, headers={"Host": host})
            assert_problem(answer, 421, "misdirected_request")
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080"):
        assert (await ann.call("GET", "/v1/auth/me", headers={"Host": host})).status == 200


@pytest.mark.settings(server__allowed_hosts=["chat.example.org"])
async def test_the_hosts_can_be_chosen(io_loop: Any, server: App) -> None:
    url = await server.start()
    for host, status in (
        ("chat.example.org:443", 200),
        ("Chat.Example.Org", 200),
        ("localhost", 421),
    ):
        answer = await send_raw(url, f"GET /healthz HTTP/1.1\nHost: {host}")
        assert answer.status == status


async def test_two_authorization_headers_are_refused(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await chat.user("ann@example.org")
    for second in (ann.token, "nonsense"):
        request = authorized(ann, "GET", "/v1/auth/me", f"Authorization: Bearer {second}")
        assert_problem(await send_raw(chat.url, request), 400, "bad_request")


# -- bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"name": "a1",}',
        b"{'name': 'a1'}",
        b'{"name": "\xff"}',
        b'\xef\xbb\xbf{"name": "a1"}',
        b'{"name": NaN}',
        b'{"name": 1' + b"0" * 5000 + b"}",
        b'{"name": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"name": "a1"} {"name": "b1"}',
    ],
    ids=["empty", "cut", "comma", "quotes", "latin", "bom", "nan", "digits", "deep", "two"],
)
async def test_what_is_no_json_is_refused(io_loop: Any, chat: DocumentedChat, raw: bytes) -> None:
    ann = await chat.user("ann@example.org")
    assert_problem(await ann.call("POST", "/v1/groups", raw=raw), 400, "bad_json")
    assert (await ann.call("GET", "/v1/groups")).body["items"] == []


async def test_a_body_comes_as_json_and_says_so(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await chat.user("ann@example.org")
    for wrong in ("", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
        answer = await ann.call(
            "POST", "/v1/groups", {"name": "a1"}, headers={"Content-Type": wrong}
        )
        assert_problem(answer, 415, "unsupported_media_type")
    for name, right in (("a1", "application/json; charset=utf-8"), ("b1", "APPLICATION/JSON")):
        answer = await ann.call(
            "POST", "/v1/groups", {"name": name}, headers={"Content-Type": right}
        )
        assert answer.status == 201


async def test_every_body_is_an_object(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await prepared(chat)
    for endpoint in chat.openapi.endpoints:
        for body in ([], ["name"], "text", 1, 1.5, True, None):
            raw = json.dumps(body).encode()
            answer = await ann.call(endpoint.method, endpoint.url(), raw=raw)
            assert_problem(answer, 422, "invalid", "")


async def test_no_operation_takes_a_field_it_does_not_know(
    io_loop: Any, chat: DocumentedChat
) -> None:
    ann = await prepared(chat)
    for endpoint in chat.openapi.endpoints:
        for name in ("surplus", "__proto__", "$where", "x" * 64, "é\0\n"):
            body = {**(endpoint.example or {}), name: 1}
            answer = await ann.call(endpoint.method, endpoint.url(), body)
            assert_problem(answer, 422, "invalid", name)


async def test_half_a_surrogate_pair_is_no_name_of_a_field(
    io_loop: Any, chat: DocumentedChat
) -> None:
    ann = await prepared(chat)
    for endpoint in chat.openapi.endpoints:
        answer = await ann.call(endpoint.method, endpoint.url(), raw=b'{"\\ud800": 1}')
        assert (answer.status, answer.body["code"]) in ((422, "invalid"), (400, "bad_json"))


async def test_every_field_of_every_body_has_its_type(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await prepared(chat)
    tried = 0
    for endpoint, name, value in wrong_fields(chat.openapi):
        body = {**(endpoint.example or {}), name: value}
        answer = await ann.call(endpoint.method, endpoint.url(), body)
        assert_problem(answer, 422, "invalid", name)
        tried += 1
    assert tried > 50


async def test_every_required_field_is_asked_for(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await prepared(chat)
    schemas = chat.openapi.document["components"]["schemas"]
    for endpoint, model in (
        ("/v1/auth/sign-in", "Credentials"),
        ("/v1/auth/password", "PasswordChange"),
        ("/v1/groups", "NewGroup"),
        ("/v1/groups/python/messages", "NewMessage"),
        ("/v1/users/bob@example.org/messages", "NewMessage"),
    ):
        assert_problem(
            await ann.call("POST", endpoint, {}), 422, "invalid", *schemas[model]["required"]
        )


async def test_numbers_stay_within_what_json_can_carry(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await prepared(chat)
    for seq in (-1, 2**53, 2**63, 2**64, 10**400, 1e300):
        answer = await ann.call("POST", "/v1/groups/python/receipts", {"read_seq": seq})
        assert_problem(answer, 422, "invalid", "read_seq")


async def prepared(chat: DocumentedChat) -> User:
    """The documents' users and group, so that nothing but the input is wrong."""
    ann, _ = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    return ann


def wrong_fields(openapi: OpenApi) -> Iterator[tuple[Endpoint, str, object]]:
    """Every field of every body with every kind of JSON value that its schema does not have."""
    values: tuple[object, ...] = (None, True, 7, 1.5, "text", [], ["text"], {}, {"$gt": ""})
    for endpoint in openapi.endpoints:
        if endpoint.example is None:
            continue
        for name, schema in openapi.properties(endpoint).items():
            for value in values:
                if openapi.faults(schema, value):
                    yield endpoint, name, value


# -- the size of bodies ------------------------------------------------------------------------


async def test_a_body_may_be_as_large_as_the_limit(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await chat.user("ann@example.org")
    full = b'{"name": "a1"}'.ljust(LIMIT)
    assert (await ann.call("POST", "/v1/groups", raw=full)).status == 201
    answer = await ann.call("POST", "/v1/groups", raw=full + b" ")
    assert_problem(answer, 413, "too_large")


@pytest.mark.parametrize("size", [LIMIT + 1, 10 * LIMIT, 100 * LIMIT])
async def test_a_body_that_says_it_is_too_large_is_refused_unread(
    io_loop: Any, chat: DocumentedChat, size: int
) -> None:
    ann = await chat.user("ann@example.org")
    request = authorized(
        ann, "POST", "/v1/groups", "Content-Type: application/json", f"Content-Length: {size}"
    )
    assert_problem(await send_raw(chat.url, request), 413, "too_large")


@pytest.mark.parametrize("size", [LIMIT + 1, 10 * LIMIT, 40 * LIMIT])
async def test_a_body_that_turns_out_too_large_is_refused_and_does_nothing(
    io_loop: Any, chat: DocumentedChat, size: int
) -> None:
    ann, bob = await prepared(chat), await chat.user("bob@example.org")
    body = chunked(*[b" " * 16_384] * (size // 16_384), b" " * (size % 16_384 + 1), b"{}")
    for path in ("/v1/groups/python/join", "/v1/groups/python/messages", "/v1/auth/sign-out"):
        request = authorized(
            bob, "POST", path, "Content-Type: application/json", "Transfer-Encoding: chunked"
        )
        assert_problem(await send_raw(chat.url, request, body), 413, "too_large")
    assert (await bob.call("GET", "/v1/auth/me")).status == 200
    assert (await ann.call("GET", "/v1/groups/python")).body["members"] == 1


async def test_a_body_in_chunks_is_read_like_any_other(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await chat.user("ann@example.org")
    request = authorized(
        ann, "POST", "/v1/groups", "Content-Type: application/json", "Transfer-Encoding: chunked"
    )
    answer = await send_raw(chat.url, request, chunked(b'{"name"', b': "a1"}'))
    assert (answer.status, answer.body["name"]) == (201, "a1")


# -- queries and paths -------------------------------------------------------------------------


async def test_every_argument_of_every_query_has_its_type(
    io_loop: Any, chat: DocumentedChat
) -> None:
    ann = await prepared(chat)
    tried = 0
    for endpoint, name, value in wrong_arguments(chat.openapi):
        url = f"{endpoint.url()}?{name}={quote(value)}"
        answer = await ann.call(endpoint.method, url)
        assert answer.status == 422, url[:100]
        assert_problem(answer, 422, "invalid", name)
        tried += 1
    assert tried > 50


async def test_no_operation_takes_an_argument_it_does_not_know_or_twice(
    io_loop: Any, chat: DocumentedChat
) -> None:
    ann = await prepared(chat)
    for endpoint in chat.openapi.endpoints:
        if endpoint.path in ("/healthz", "/readyz", "/metrics"):
            continue
        answer = await ann.call(endpoint.method, f"{endpoint.url()}?surplus=1", endpoint.example)
        assert_problem(answer, 422, "invalid", "surplus")
        for name in endpoint.query:
            answer = await ann.call(endpoint.method, f"{endpoint.url()}?{name}=1&{name}=1")
            assert_problem(answer, 422, "invalid", name)


async def test_odd_queries_are_refused(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await prepared(chat)
    for query in ("limit=%FF", "%FF=1", "%00=1", "limit[]=1", "=1", "limit=1;limit=2", "a&b"):
        answer = await ann.call("GET", f"/v1/users?{query}")
        assert answer.status in (400, 422), query


async def test_odd_paths_find_nothing(io_loop: Any, chat: DocumentedChat) -> None:
    ann = await prepared(chat)
    parts = (
        "a%2Fb",
        "%2F",
        "%00",
        "%0D%0AX-Evil:%201",
        "%20",
        "%F0%9F%98%80",
        "%FF",
        "%ED%A0%80",
        "%",
        "%zz",
        "..",
        "%2E%2E",
        ".",
        "x" * 8000,
        "%F0%9F%98%80" * 1000,
        "%7B%22$gt%22:%22%22%7D",
        "'%20OR%201=1--",
        "*",
        "+",
    )
    for endpoint in chat.openapi.endpoints:
        for parameter in re.findall(r"\{(\w+)\}", endpoint.path):
            for part in parts:
                url = endpoint.url(**{parameter: part})
                answer = await ann.call(endpoint.method, url, endpoint.example)
                assert answer.status in (400, 404), url[:100]
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert "X-Evil" not in answer.headers


def wrong_arguments(openapi: OpenApi) -> Iterator[tuple[Endpoint, str, str]]:
    """Every argument of every query with values that its schema, or its cursor, does not have."""
    for endpoint in openapi.endpoints:
        for name, parameter in endpoint.query.items():
            for value in _wrong_values(name, parameter["schema"]):
                yield endpoint, name, value


def _wrong_values(name: str, schema: Json) -> Iterator[str]:
    kinds: Mapping[str, Json] = {one.get("type", ""): one for one in schema.get("anyOf", [schema])}
    if "integer" in kinds:
        yield from ("", "x", "1.5", "0x10", "1e1", "-1", "٣x", "1" * 5000, "null", "true")
        yield str(kinds["integer"]["maximum"] + 1)
        yield str(kinds["integer"]["minimum"] - 1)
    elif "boolean" in kinds:
        yield from ("", "x", "2", "null")
    elif "enum" in schema:
        yield from ("", "x", schema["enum"][0].upper() + "x", ",".join(schema["enum"]))
    else:
        yield "x" * (kinds["string"]["maxLength"] + 1)
    if name == "after":
        # No base64, no JSON, other JSON.
        yield from ("x", "!!!!", "%%%%", "eHg", "e30x", "WzFd", "bnVsbA", "ew", "_w")


# -- headers -----------------------------------------------------------------------------------


async def test_every_answer_says_how_it_is_to_be_handled(
    io_loop: Any, chat: DocumentedChat
) -> None:
    ann = await prepared(chat)
    sign_in = {"email": ann.email, "password": PASSWORD}
    answers = [
        await chat.call("POST", "/v1/auth/sign-in", sign_in),
        await ann.call("POST", "/v1/groups/python/messages", {"text": "hello"}),
        await ann.call("POST", "/v1/groups/python/receipts", {"read_seq": 1}),
        await chat.call("GET", "/"),
        *[await chat.call("GET", path) for path in PAGES],
        *[await chat.call("GET", path) for path in ("/healthz", "/metrics", "/asyncapi.json")],
        await ann.call("POST", "/v1/groups", raw=b"{"),
        await chat.call("GET", "/v1/users"),
        await ann.call("GET", "/v1/groups/go/messages"),
        await chat.call("GET", "/nothing"),
        await chat.call("GET", "/static/nothing"),
        await chat.call("DELETE", "/v1/users"),
        await ann.call("POST", "/v1/groups", raw=b" " * (LIMIT + 1)),
        await ann.call("GET", "/v1/users?limit=0"),
        await chat.call("GET", "/docs", headers={"Host": "evil.example"}),
    ]
    statuses = {answer.status for answer in answers}
    assert statuses == {200, 201, 204, 302, 400, 401, 404, 405, 413, 421, 422}
    for answer in answers:
        headers = answer.headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert len(headers["X-Request-ID"]) == 16
        assert headers["Server"] == "chatd"
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == len(answers)


async def test_a_fault_of_the_servers_own_shows_nothing_of_the_inside(
    io_loop: Any, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(**_: object) -> None:
        raise RuntimeError("inside")

    chat = Chat(await server.start())
    ann = await chat.user("ann@example.org")
    monkeypatch.setattr(server.storage, "list_users", broken)
    answer = await ann.call("GET", "/v1/users")
    chat.close()
    assert_problem(answer, 500, "internal")
    for word in ("inside", "RuntimeError", "Traceback", ".py"):
        assert word not in str(answer.body)
