"""Any request: its answer is one that the server's own document promises, and never a 5xx.

One fuzzer makes requests from ``/openapi.json``, such as fit it and such as don't; another one
spoils the bytes of requests.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy
from schemathesis import Case, GenerationMode, checks
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response

from tests.chat import PASSWORD, PATIENCE
from tests.counts import Report, Scale
from tests.e2e.attacks.fuzzing import fuzz, json_values, numbers, texts
from tests.e2e.attacks.well import assert_well
from tests.e2e.server import Server

KNOWN: Final = {"email": "bob@example.org", "name": "python", "password": PASSWORD}
"""What leads somewhere, in a path or in a body."""

MOST_GROWTH: Final = 32 * 2**20
"""Bytes that a server may keep of all this."""

QUIET_SECONDS: Final = 0.1
"""A server that says nothing for so long waits for more of the request: none will come."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("rest"), unlimited=True)
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def ann(server: Server) -> Iterator[Ann]:
    with requests.Session() as session:
        session.trust_env = False
        yield Ann(server.url, session)


class Ann:
    """A member of a group who has messages; requests may end what she has, and she gets it anew."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self.session = session
        self.password = PASSWORD
        self.token = ""
        self._call("/v1/auth/sign-in", email=KNOWN["email"], password=PASSWORD)
        signed_in = self._call("/v1/auth/sign-in", email="ann@example.org", password=PASSWORD)
        self.token = signed_in["token"]
        self._call("/v1/groups", name=KNOWN["name"])
        self._call(f"/v1/groups/{KNOWN['name']}/messages", text="hello")
        message = self._call(f"/v1/users/{KNOWN['email']}/messages", text="hello")
        self.known = {**KNOWN, "id": message["id"]}

    def _call(self, path: str, **body: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        answer = self.session.post(
            self.url + path, json=body or None, headers=headers, timeout=PATIENCE
        )
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def token_for(self, path: str) -> str:
        """A token that is good for this request, and that the request may end."""
        if path.endswith("/sign-out"):
            return str(self._call("/v1/auth/token")["token"])
        if path.endswith("/leave"):
            self._call(f"/v1/groups/{KNOWN['name']}/join")
        return self.token

    def heard(self, case: Case[Any], answer: Response) -> None:
        """Go on with what she has been given."""
        if case.path.endswith("/auth/password") and answer.status_code == 200:
            body: Any = case.body
            self.token, self.password = answer.json()["token"], body["new"]


# -- from the document -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_one_that_the_document_promises(
    server: Server, ann: Ann, chance: Random, scale: Scale, report: Report, mode: GenerationMode
) -> None:
    """Its status, its content type, its body, and the code of a refusal.

    Seen to fail without ``GroupExists`` among the documented errors of making a group.
    """
    statuses: Counter[int] = Counter()
    for operation in _operations(server.url, mode):

        @fuzz(chance, scale(12, 400))
        @given(case=operation.as_strategy(mode), data=st.data())
        def run(case: Case[Any], data: DataObject) -> None:
            headers = data.draw(authorizations(ann.token_for(case.path)), label="headers")
            as_made = data.draw(st.booleans(), label="as made")
            if not as_made:
                _lead_somewhere(case, ann, data)
            answer = case.call(headers=headers, session=ann.session, timeout=PATIENCE)
            case.validate_response(answer, checks=_checks(as_made), headers=headers)
            _check_code(case, answer)
            ann.heard(case, answer)
            statuses[answer.status_code] += 1

        run()
    assert_well(server)
    report(f"{mode.value} requests: {_counts(statuses)}")


def _operations(url: str, mode: GenerationMode) -> Iterator[Any]:
    """The documented operations of which there are requests of this mode."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    # Tokens, good and bad, are ours to give.
    schema.config.generation.update(with_security_parameters=False)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        raw = operation.definition.raw
        # Any text fits as a part of a path.
        is_told = any(one["in"] == "query" for one in raw["parameters"]) or "requestBody" in raw
        if is_told or mode.is_positive:
            yield operation


def _checks(as_made: bool) -> list[Any]:
    """What is asked of an answer; a request that was made not to fit may do so when changed."""
    return [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        *([checks.negative_data_rejection] if as_made else []),
    ]


def _counts(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))


def _lead_somewhere(case: Case[Any], ann: Ann, data: DataObject) -> None:
    """Most requests would end at the first check: put in what is known."""
    known = {**ann.known, "current": ann.password}
    parts: list[Any] = [case.path_parameters, case.body]
    for part in parts:
        if isinstance(part, dict):
            part.update({name: known[name] for name in part if name in known})
    documented = case.operation.definition.raw["parameters"]
    if any(one["name"] == "after" for one in documented):
        case.query["after"] = data.draw(cursors, label="after")


@st.composite
def authorizations(draw: st.DrawFn, good: str) -> dict[str, str]:
    """Headers with a good token, with another, or with none."""
    value = f"Bearer {good}"
    match draw(st.sampled_from(["good"] * 8 + ["spoiled", "none"])):
        case "none":
            return {}
        case "spoiled":
            return {"Authorization": draw(spoiled_words(value))}
    return {"Authorization": value}


@st.composite
def spoiled_words(draw: st.DrawFn, word: str) -> str:
    """A header's or a query's value with a few characters changed."""
    # What is drawn must not depend on the word: a token is another one each time.
    at = draw(st.integers(0, 500)) % len(word)
    end = at + draw(st.integers(0, 50))
    printable = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
    return (word[:at] + draw(st.text(printable, max_size=20)) + word[end:]).strip()


def _word(cursor: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode().rstrip("=")


cursors: Final[SearchStrategy[str]] = st.one_of(
    st.builds(_word, json_values),
    st.builds(_word, st.fixed_dictionaries({"name": texts, "count": numbers})),
    st.builds(_word, st.fixed_dictionaries({"active_at": numbers, "conversation": texts})),
    spoiled_words(_word({"name": "python", "count": 1})),
)


def _check_code(case: Case[Any], answer: Response) -> None:
    """The code of a refusal stands in what the document says of its status."""
    if "problem" in answer.headers.get("content-type", [""])[0]:
        described = case.operation.definition.raw["responses"][str(answer.status_code)]
        assert f"`{answer.json()['code']}`" in described["description"], answer.text


# -- from bytes ------------------------------------------------------------------------------

TARGETS: Final = (
    b"GET /healthz",
    b"GET /metrics",
    b"GET /docs",
    b"GET /chat/user?Authorization=TOKEN",
    b"GET /group/python/connect?replay=none",
    b"GET /v1/ws?receipts=explicit",
    b"GET /static/chat/main.js",
    b"GET /v1/users?online=true&prefix=b&limit=2",
    b"GET /v1/groups/python/messages?after_seq=1",
    b"GET /v1/users/bob%40example.org/messages",
    b"POST /v1/auth/sign-in",
    b"POST /v1/groups",
    b"POST /v1/groups/python/messages",
    b"POST /v1/users/bob@example.org/receipts",
    b"OPTIONS *",
    b"PUT /v1/groups/python",
)
HEADERS: Final = (
    b"Host: localhost",
    b"Host: evil.example",
    b"Authorization: Bearer TOKEN",
    b"Content-Type: application/json",
    b"Content-Length: 20",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Encoding: gzip",
    b"Connection: Upgrade, keep-alive",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Protocol: chatd.v1, bearer.TOKEN",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    b"Origin: http://localhost",
    b"Expect: 100-continue",
    b"X-Forwarded-For: 10.0.0.1, [::1]:99, nonsense",
    b"If-None-Match: *",
    b"Range: bytes=5-1",
    b"Cookie: a=b; =; $Version=1",
    b" folded",
)
BODIES: Final = (
    b"",
    b'{"text": "hello", "client_id": "c"}',
    b'{"email": "bob@example.org", "password": "wrong and long"}',
    b'{"read_seq": 1}',
    b'12\r\n{"text": "chunked"}\r\n0\r\n\r\n',
    b"[" * 5000,
    b"\xff\xfe\x00",
)


@st.composite
def raw_requests(draw: st.DrawFn) -> bytes:
    """The bytes of a request as a client that means ill might send them."""
    target = draw(st.sampled_from(TARGETS))
    body = draw(st.sampled_from(BODIES) | st.binary(max_size=200))
    usual = [b"Host: localhost", b"Authorization: Bearer TOKEN", b"Content-Type: application/json"]
    if body:
        usual.append(b"Content-Length: %d" % len(body))
    headers = usual + draw(st.lists(st.sampled_from(HEADERS), max_size=3))
    if draw(st.booleans()):
        headers = draw(st.permutations(headers))[draw(st.integers(0, 2)) :]
    version = draw(mostly(b"HTTP/1.1", [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b""]))
    line_end = draw(mostly(b"\r\n", [b"\n", b"\r", b"\r\n\r\n", b"\0"]))
    data = line_end.join([b"%s %s" % (target, version), *headers, b"", body])
    return draw(spoiled_bytes(data)) if draw(st.booleans()) else data


def mostly(usual: bytes, others: list[bytes]) -> SearchStrategy[bytes]:
    """One of these, and most of the time the first."""
    return st.sampled_from([usual] * 2 * len(others) + others)


@st.composite
def spoiled_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Data with up to three pieces taken out, doubled or replaced by others."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 30))
        piece = data[start:end]
        instead = draw(st.sampled_from([b"", piece * 2, piece * 300]) | st.binary(max_size=20))
        data = data[:start] + instead + data[end:]
    return data


def test_no_bytes_are_answered_by_a_5xx_or_by_silence_for_ever(
    server: Server, ann: Ann, chance: Random, scale: Scale, report: Report
) -> None:
    """Seen to fail with ``int(length or 0)`` of any Content-Length in `GuardedHandler.prepare`."""
    before = server.resident_bytes()
    statuses: Counter[int] = Counter()

    @fuzz(chance, scale(150, 4_000), shrink=False)
    @given(raw_requests())
    def run(request: bytes) -> None:
        answered = _exchange(server.url, request.replace(b"TOKEN", ann.token.encode()))
        found = [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3})", answered, re.M)]
        assert not answered or answered.startswith(b"HTTP/1.1 "), answered
        assert all(status < 500 for status in found), answered
        statuses.update(found or [0])

    run()
    assert_well(server)
    assert server.resident_bytes() - before < MOST_GROWTH
    report(f"raw requests (0: no answer): {_counts(statuses)}")


def _exchange(url: str, data: bytes) -> bytes:
    """What a server answers to these bytes until it closes, as it must when no more can come."""
    address = urlsplit(url)
    with closing(socket.create_connection((address.hostname, address.port))) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(data)
        connection.settimeout(QUIET_SECONDS)
        answered = bytearray()
        while True:
            try:
                part = connection.recv(65_536)
            except TimeoutError:
                # Only now, as a server may stop answering who has stopped sending.
                connection.settimeout(PATIENCE)
                connection.shutdown(socket.SHUT_WR)
                continue
            except ConnectionError:
                return bytes(answered)
            if not part:
                return bytes(answered)
            answered += part
