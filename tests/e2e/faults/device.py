"""A client as a user has one: it comes back after every end, and sends until it is acked.

It logs what it is sent before the Pong that confirms it leaves: what `Log` has not seen, no
receipt may claim. The protocol below it is that of websockets, fed by hand for that reason.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from chatd.models import (
    Conversation,
    group_conversation,
    group_of,
    other_of,
    pair_conversation,
)
from tests.chat import Json, User
from tests.e2e.faults.log import Acked, Bye, Closed, Gap, Log, Receipt, Received, Refused, Sent
from tests.leaks import watch

_RETRY_SECONDS = 0.05
_PAUSE_SECONDS = 0.2
"""How long until a refused message is sent again."""


class Device:
    """One of a user's devices; to be entered with ``async with``."""

    def __init__(
        self,
        user: User,
        name: str = "",
        *,
        url: str | None = None,
        tls: ssl.SSLContext | None = None,
        resume: bool = False,
        fetch_after: float = 0,
    ) -> None:
        """``url``: where sockets connect, the server itself where it is None; a list of servers
        or a proxy may be set later. ``tls``: whom to trust where that speaks TLS. ``resume``: it
        keeps cursors and names them on connecting, else it leaves what it missed to the server.
        ``fetch_after``: seconds until it pages through a gap."""
        self.user = user
        self.log = Log(user.email, name or user.email)
        self.url = url
        self._tls = tls
        self.connection = 0
        self.ready = asyncio.Event()
        self.refused: set[str] = set()
        self._resume = resume
        self._fetch_after = fetch_after
        self._epoch: str | None = None
        self._have: dict[str, set[int]] = {}
        self._tops: dict[str, int] = {}
        self._unacked: dict[str, Json] = {}
        self._count = 0
        self._socket: _Socket | None = None
        self._fetching: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Device:
        self.connect()
        await self.ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    # -- its connections -----------------------------------------------------------------------

    def connect(self) -> None:
        """Be on line from now on, whatever happens to connections."""
        self._running = asyncio.create_task(self._keep_connected())

    async def disconnect(self) -> None:
        """Be off line; what is not acked yet is sent when it connects again."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait([running, *self._fetching])
            if not running.cancelled():
                running.result()  # raises what has ended it before

    async def _keep_connected(self) -> None:
        try:
            while True:
                await self._connect_once()
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            for task in self._fetching:
                task.cancel()

    async def _connect_once(self) -> None:
        self.connection += 1
        parts = urlsplit(self.url or self.user.chat.url)
        assert parts.hostname is not None
        assert parts.port is not None
        replay = urlencode({"replay": "resume" if self._resume else "undelivered"})
        uri = f"ws://{parts.netloc}/v1/ws?{replay}"
        socket = _Socket(uri, self.user.token, self._on_frame)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: socket, parts.hostname, parts.port, ssl=self._tls)
            self._socket = socket
            code = await socket.closed
            retry_after = socket.retry_after
            self.log.events.append(Closed(code, retry_after, connection=self.connection))
        except OSError:
            pass
        finally:
            self.ready.clear()
            self._socket = None
            socket.abort()

    # -- sending -------------------------------------------------------------------------------

    @property
    def unacked(self) -> int:
        """How many messages are on their way."""
        return len(self._unacked)

    def send(self, text: str, **target: str) -> str:
        """Send to a ``group`` or ``to`` a user, again until it is acked; returns its client_id."""
        self._count += 1
        client_id = f"{self.log.device} {self._count}"
        frame = {"type": "send", "client_id": client_id, "text": text, **target}
        watch.keep(frame)
        self._unacked[client_id] = frame
        self._write(client_id)
        return client_id

    async def keep_sending(
        self, messages: int | None = None, *, window: int = 8, pause: float = 0, **target: str
    ) -> None:
        """Send numbered messages, ``window`` of them unacked at most, until all are acked.

        Without a number of ``messages`` it goes on until it is cancelled; ``pause``: seconds
        between two.
        """
        number = 0
        while messages is None or number < messages:
            number += 1
            self.send(f"{self.log.device} says {number}", **target)
            await asyncio.sleep(pause)
            await until(lambda: self.unacked < window)
        await self.all_acked()

    async def all_acked(self) -> None:
        """Return once every message was acked."""
        await until(lambda: not self._unacked)

    def _write(self, client_id: str) -> None:
        frame = self._unacked.get(client_id)
        if frame is None or self._socket is None or not self.ready.is_set():
            return  # acked by now, or to be written once it is on line
        self.log.events.append(
            Sent(client_id, self._conversation(frame), frame["text"], connection=self.connection)
        )
        self._socket.send(frame)

    def _conversation(self, frame: Json) -> str:
        """The conversation that a frame sent or received names."""
        if "group" in frame:
            return group_conversation(frame["group"])
        others = [frame[key] for key in ("to", "from", "user") if key in frame]
        other = next((one for one in others if one != self.user.email), self.user.email)
        return pair_conversation(self.user.email, other)

    # -- receiving -----------------------------------------------------------------------------

    def _on_frame(self, frame: Json) -> None:
        handler = getattr(self, f"_on_{frame['type']}", None)
        if handler is not None:
            handler(frame)

    def _on_hello(self, frame: Json) -> None:
        if not self._resume or self._socket is None:
            return
        epoch, self._epoch = self._epoch, frame["epoch"]
        cursors = [self._cursor(one) for one in self._tops] if epoch == frame["epoch"] else []
        self._socket.send({"type": "resume", "epoch": frame["epoch"], "cursors": cursors})

    def _cursor(self, conversation: str) -> Json:
        return {**self._target(conversation), "seq": self.top(conversation)}

    def top(self, conversation: str) -> int:
        """Up to where it has the conversation, without a hole behind what it was sent first."""
        return self._tops.get(conversation, 0)

    def _has(self, conversation: str, seq: int) -> None:
        have = self._have.setdefault(conversation, set())
        have.add(seq)
        top = self._tops.setdefault(conversation, seq)
        while top + 1 in have:
            top += 1
        self._tops[conversation] = top

    def _on_ready(self, frame: Json) -> None:
        self.ready.set()
        for client_id in list(self._unacked):
            self._write(client_id)

    def _on_message(self, frame: Json, *, fetched: bool = False) -> None:
        conversation, seq = self._conversation(frame), frame["seq"]
        self.log.events.append(
            Received(
                conversation,
                seq,
                frame["id"],
                frame["from"],
                frame["text"],
                fetched,
                connection=self.connection,
            )
        )
        self._has(conversation, seq)

    def _on_sent(self, frame: Json) -> None:
        conversation = self._conversation(frame)
        self.log.events.append(
            Acked(
                conversation,
                frame["seq"],
                frame["id"],
                frame["client_id"],
                frame["duplicate"],
                connection=self.connection,
            )
        )
        self._unacked.pop(frame["client_id"], None)
        self._has(conversation, frame["seq"])

    def _on_error(self, frame: Json) -> None:
        client_id = frame.get("client_id")
        self.log.events.append(Refused(client_id, frame["code"], connection=self.connection))
        if client_id is not None:
            self.refused.add(client_id)
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._write, client_id)

    def _on_receipt(self, frame: Json) -> None:
        if frame["kind"] == "delivered":
            self.log.events.append(
                Receipt(
                    self._conversation(frame),
                    frame["by"],
                    frame["seq"],
                    connection=self.connection,
                )
            )

    def _on_bye(self, frame: Json) -> None:
        reconnect, after = frame["reconnect"], frame.get("after")
        self.log.events.append(Bye(reconnect, after, connection=self.connection))

    def _on_gap(self, frame: Json) -> None:
        conversation, first, last = self._conversation(frame), frame["from_seq"], frame["to_seq"]
        self.log.events.append(Gap(conversation, first, last, connection=self.connection))
        self._tops.setdefault(conversation, first - 1)
        task = asyncio.create_task(self._fetch(conversation, first, last))
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _fetch(self, conversation: str, first: int, last: int) -> None:
        """Page through what was left out, however long the server is away; say that it came."""
        await asyncio.sleep(self._fetch_after)
        ((kind, name),) = self._target(conversation).items()
        while first <= last:
            path = f"/v1/{kind}s/{name}/messages?after_seq={first - 1}&limit=200"
            answer = await self.user.call("GET", path)
            if answer.status != 200:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            for item in answer.body["items"]:
                if item["seq"] <= last:
                    self._on_message(item, fetched=True)
            first = answer.body["items"][-1]["seq"] + 1
        if self._socket is not None and self.ready.is_set():
            source = {"group": name} if kind == "group" else {"from": name}
            self._socket.send({"type": "received", **source, "seq": self.top(conversation)})

    def _target(self, conversation: str) -> dict[str, str]:
        """A conversation as frames name it: a group, or the other user."""
        if (group := group_of(Conversation(conversation))) is not None:
            return {"group": group}
        return {"user": other_of(Conversation(conversation), self.user.email)}


class _Socket(asyncio.Protocol):
    """One connection: bytes to frames, each frame to ``on_frame`` before anything is answered."""

    def __init__(self, uri: str, token: str, on_frame: Callable[[Json], None]) -> None:
        self.closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.retry_after: str | None = None
        self._uri = uri
        self._token = token
        self._on_frame = on_frame
        self._protocol = ClientProtocol(parse_uri(uri), max_size=None)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {self._token}"
        self._protocol.send_request(request)
        self._write_out()

    def send(self, frame: Json) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(json.dumps(frame).encode())
            self._write_out()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._take_events()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._take_events()

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._check_handshake(event)
                continue
            assert isinstance(event, Frame)
            if event.opcode is Opcode.TEXT:
                self._on_frame(json.loads(bytes(event.data)))
        self._write_out()

    def _check_handshake(self, response: Response) -> None:
        if self._protocol.handshake_exc is not None:
            # The server may keep such a connection open, for another request.
            self.retry_after = response.headers.get("Retry-After")
            self.closed.set_result(response.status_code)
            self.abort()

    def _write_out(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed.done():
            return
        if exc is None or isinstance(exc, OSError):
            self.closed.set_result(self._protocol.close_code)
        else:
            self.closed.set_exception(exc)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Return once the condition holds; faults take their time to be over."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
