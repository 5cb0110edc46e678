"""A WebSocket whose bytes are the test's own, and the server that it is connected to.

What comes back must be as the server's AsyncAPI document has it, all of it.
"""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Set
from contextlib import suppress
from typing import Any, Final, Self
from urllib.request import ProxyHandler, Request, build_opener

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.chat import PASSWORD, PATIENCE, Json
from tests.test_openapi import AsyncApi


class Site:
    """A server with two users, a group of theirs and another one, and its own documentation."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._open = build_opener(ProxyHandler({})).open
        self.asyncapi = AsyncApi(self._call("GET", "/asyncapi.json"))
        self.sent_by_server = self.asyncapi.messages("send")
        self.bob = self._sign_in("bob@example.org")
        self.ann = self._sign_in("ann@example.org")
        with Client(self, "/v1/ws", self.ann) as client:
            self.epoch = client.epoch
        self._call("POST", "/v1/groups", self.bob, name="other")
        self._call("POST", "/v1/groups", self.bob, name="python")
        self._call("POST", "/v1/groups/python/join", self.ann)

    def _sign_in(self, email: str) -> str:
        answer = self._call("POST", "/v1/auth/sign-in", email=email, password=PASSWORD)
        return str(answer["token"])

    def _call(self, method: str, path: str, token: str | None = None, **body: str) -> Any:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        data = json.dumps(body).encode() if body else None
        request = Request(self.url + path, data, headers, method=method)
        with self._open(request, timeout=PATIENCE) as answer:
            return json.load(answer)


class Client:
    """One WebSocket, whose bytes are the caller's; it answers Pings, and reads what it is sent."""

    def __init__(self, site: Site, address: str, token: str | None = None) -> None:
        self._site = site
        uri = parse_uri("ws" + site.url.removeprefix("http") + address)
        self._protocol = ClientProtocol(uri, max_size=None)
        self._socket = socket.create_connection((uri.host, uri.port), PATIENCE)
        self.frames: Counter[str] = Counter()
        self.is_open = True
        self.epoch = ""
        request = self._protocol.connect()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        self._protocol.send_request(request)
        self._flush()
        self._read_until(lambda: self._protocol.state is not State.CONNECTING)
        assert self._protocol.handshake_exc is None
        if token is not None:
            self._read_until(lambda: self.frames["hello"] > 0)

    def heard(self, codes: Set[int]) -> Counter[str]:
        """What it was sent, and the code that the server closed with, if it has: one of these."""
        code = self.close_code
        assert code is None or code in codes, code
        return self.frames + Counter({f"close {code}": code is not None})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def close_code(self) -> int | None:
        """What the server has closed with, None where it has not."""
        received = self._protocol.close_rcvd
        return None if received is None else received.code

    def send(self, data: bytes) -> None:
        """Send these bytes; the server may have closed by then, which reading will tell."""
        with suppress(ConnectionError):
            self._socket.sendall(data)

    def settle(self) -> None:
        """Return once the server has answered all it was sent, or has closed."""
        pongs = self.frames["pong"]
        self.send(PING)
        self._read_until(lambda: self.frames["pong"] > pongs)

    def finish(self) -> None:
        """Say that no more comes; the server must close."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self.wait_closed()

    def wait_closed(self) -> None:
        """Return once the server has closed, though more might come."""
        self._read_until(lambda: False)

    def catch_up(self) -> None:
        """Read what has come, without waiting for more."""
        self._socket.settimeout(0)
        try:
            while self.is_open:
                self._read()
        except BlockingIOError:
            self._socket.settimeout(PATIENCE)

    def _read_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while self.is_open and not condition():
            assert time.monotonic() < until, self.frames
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(65_536)
        except ConnectionError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self.is_open = False
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._take(json.loads(bytes(event.data)))
        self._flush()

    def _take(self, frame: Json) -> None:
        faults = self._site.asyncapi.faults(self._site.sent_by_server[frame["type"]], frame)
        assert not faults, frame
        assert frame.get("code") != "internal", frame
        self.frames[frame["type"]] += 1
        if frame["type"] == "error":
            self.frames[f"error {frame['code']}"] += 1
        self.epoch = frame.get("epoch", self.epoch)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.send(data)


def text_frame(payload: bytes) -> bytes:
    """What a client sends to say this, be it UTF-8 or not."""
    return Frame(Opcode.TEXT, payload).serialize(mask=True)


PING_FRAME: Final = Frame(Opcode.TEXT, b'{"type":"ping"}')
PING: Final = text_frame(b'{"type":"ping"}')
