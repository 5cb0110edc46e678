"""A chatd server inside the test's loop, and users who talk to it over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from chatd.app import App
from chatd.logs import Logger, make_logger
from chatd.settings import load
from tests.leaks import WatchedStream, watch

PATIENCE = 10.0
"""Seconds a test waits for what must come."""

PASSWORD = "correct horse battery"

Json = dict[str, Any]


class Answer(NamedTuple):
    """What the server answered to a request."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Chat:
    """A running server, as its users reach it: by its address only."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = AsyncHTTPClient(force_instance=True)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """One request; ``body`` is sent as JSON, ``raw`` as it is."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        response = await self._http.fetch(
            HTTPRequest(
                self.url + path,
                method=method,
                headers=sent,
                body=raw,
                allow_nonstandard_methods=True,
                follow_redirects=False,
                request_timeout=PATIENCE,
            ),
            raise_error=False,
        )
        is_json = "json" in response.headers.get("Content-Type", "")
        content = json.loads(response.body) if is_json else response.body.decode()
        watch.keep(body)
        watch.keep(content)
        return Answer(response.code, content or None, response.headers)

    async def user(self, email: str, password: str = PASSWORD) -> User:
        """Sign in, and up where the address is new."""
        answer = await self.call("POST", "/v1/auth/sign-in", {"email": email, "password": password})
        assert answer.status in (200, 201), answer
        return User(self, answer.body["user"]["email"], answer.body["token"])

    def socket_url(self, path: str, **query: str) -> str:
        url = "ws" + self.url.removeprefix("http") + path
        return f"{url}?{urlencode(query)}" if query else url

    def close(self) -> None:
        self._http.close()


class User:
    """A signed-in user."""

    def __init__(self, chat: Chat, email: str, token: str) -> None:
        self.chat = chat
        self.email = email
        self.token = token

    async def call(self, method: str, path: str, body: object = None, **more: Any) -> Answer:
        return await self.chat.call(method, path, body, token=self.token, **more)

    async def create(self, group: str) -> None:
        answer = await self.call("POST", "/v1/groups", {"name": group})
        assert answer.status == 201, answer

    async def join(self, group: str) -> None:
        answer = await self.call("POST", f"/v1/groups/{group}/join")
        assert answer.status == 200, answer

    async def say(self, text: str, **target: str) -> Json:
        """Send over REST, to a ``user`` or a ``group``; the stored message."""
        ((kind, name),) = target.items()
        path = f"/v1/{kind}s/{quote(name)}/messages"
        answer = await self.call("POST", path, {"text": text})
        assert answer.status == 201, answer
        return dict(answer.body)

    def socket(self, path: str = "/v1/ws", **query: str) -> Socket:
        """A connection to enter with ``async with``."""
        return Socket(
            self.chat.socket_url(path, **query), {"Authorization": f"Bearer {self.token}"}
        )


class Socket:
    """A live WebSocket that keeps every frame it was sent.

    The library below answers Pings, as every client's does; nothing here helps it.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        subprotocols: list[str] | None = None,
        wait_ready: bool = True,
        **options: Any,
    ) -> None:
        self._connecting = connect(
            url,
            additional_headers=dict(headers or {}),
            subprotocols=[Subprotocol(name) for name in subprotocols or []] or None,
            ping_interval=None,
            proxy=None,
            max_size=None,
            **options,
        )
        self._wait_ready = wait_ready and "replay=resume" not in url and bool(headers)
        self.ws: ClientConnection
        self.frames: list[Json] = []
        self._seen = 0
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self.ws = await asyncio.wait_for(self._connecting, PATIENCE)
        self._reader = asyncio.create_task(self._read())
        if self._wait_ready:
            await self.next("ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ws.close()
        await self._reader

    async def _read(self) -> None:
        try:
            async for data in self.ws:
                async with self._news:
                    self.frames.append(json.loads(data))
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        async with self._news:
            self._news.notify_all()

    async def send(self, **frame: object) -> None:
        watch.keep(frame)
        await self.ws.send(json.dumps(frame))

    async def next(self, *kinds: str, where: Callable[[Json], bool] = lambda _: True) -> Json:
        """The next frame of one of these types that fits; those in between are passed over."""

        def found() -> Json | None:
            while self._seen < len(self.frames):
                frame = self.frames[self._seen]
                self._seen += 1
                if frame["type"] in kinds and where(frame):
                    return frame
            return None

        async with asyncio.timeout(PATIENCE), self._news:
            while (frame := found()) is None:
                assert not self._reader.done(), f"closed {self.ws.close_code}: {self.frames}"
                await self._news.wait()
            return frame

    def of(self, *kinds: str) -> list[Json]:
        """All frames of these types so far."""
        return [frame for frame in self.frames if frame["type"] in kinds]

    async def say(self, text: str, **target: str) -> Json:
        """Send, and wait until it is stored: the ``sent`` frame."""
        await self.send(type="send", text=text, **target)
        return await self.next("sent", "error")

    async def ask(self, client_id: str, **frame: object) -> Json:
        """Send a message; its own ``sent`` or ``error``, however long that takes."""
        looked_at = len(self.frames)
        await self.send(type="send", client_id=client_id, **frame)
        async with self._news:
            while True:
                for answer in self.frames[looked_at:]:
                    if answer["type"] in ("sent", "error") and answer["client_id"] == client_id:
                        return answer
                looked_at = len(self.frames)
                assert not self._reader.done(), f"closed {self.ws.close_code}: {self.frames[-3:]}"
                await self._news.wait()

    async def settle(self) -> None:
        """Return once everything the server had for this socket has arrived."""
        await self.send(type="ping")
        await self.next("pong")

    async def closed(self) -> int:
        """Wait for the server to close; its code."""
        await asyncio.wait_for(asyncio.shield(self._reader), PATIENCE)
        assert self.ws.close_code is not None
        return self.ws.close_code


async def start_app(data_dir: Path, storage: str = "memory:", **settings: object) -> App:
    """A server in this loop, on a free port. Settings are dotted keys, ``__`` for the dot."""
    chosen = any(name.startswith("logging__") for name in settings)
    overrides: dict[str, object] = {
        "server.port": 0,
        "storage.url": storage,
        "storage.data_dir": data_dir,
        "limits.sign_in_per_minute": 0,
        **{key.replace("__", "."): value for key, value in settings.items()},
    }
    return App(load(None, {}, overrides), log=None if chosen else quiet_log())


def quiet_log() -> Logger:
    """A log of everything that is looked through at the end, and shows only what is severe."""
    return make_logger("json", "debug", WatchedStream())


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; it must, in time."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def texts(frames: list[Json]) -> list[str]:
    return [frame["text"] for frame in frames]


async def delivered(sender: str, recipient: User, seq: int) -> None:
    """Return once the recipient's mark in the pair's conversation has reached ``seq``."""
    path = f"/v1/users/{sender}/messages?after_seq={seq - 1}&limit=1"
    async with asyncio.timeout(5):
        while True:
            answer = await recipient.call("GET", path)
            if "delivered_at" in answer.body["items"][0]:
                return
            await asyncio.sleep(0.01)
