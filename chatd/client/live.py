"""The live side of a client: one connection after the other, and what is asked of the server.

What is asked is kept until it is answered, and asked again on the next connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable
from typing import Final
from urllib.parse import urlencode

import msgspec

from chatd.client import frames
from chatd.client.asks import Asks
from chatd.client.errors import Closed, Ended, Refused, SignedOut, Unreachable
from chatd.client.events import Connected, Disconnected, Gap, Sent
from chatd.client.frames import Bye, ErrorFrame, Hello, Inbound, MessageFrame, Pong, Ready
from chatd.client.inbox import Inbox
from chatd.client.outbox import Outbox
from chatd.client.pauses import Backoff, asked_for, why_final
from chatd.client.rest import Rest
from chatd.client.socket import NotNow, Socket

_RETRY_SECONDS: Final = 1.0
"""The pause where a server asks for patience, but does not say for how long."""

log = logging.getLogger("chatd.client")


class Live:
    """Keeps a connection, whatever happens to it, from ``start`` to ``stop``."""

    def __init__(
        self,
        rest: Rest,
        inbox: Inbox,
        *,
        explicit: bool,
        listen: bool,
        context: ssl.SSLContext | None,
    ) -> None:
        self.error: BaseException | None = None
        self.news = asyncio.Event()
        self._rest = rest
        self._inbox = inbox
        self._explicit = explicit
        self._listen = listen
        self._context = context
        self._room = asyncio.Event()
        self._outbox = Outbox()
        self._answers: dict[str, asyncio.Future[Sent]] = {}
        self._asks = Asks(self._write)
        self._socket: Socket | None = None
        self._is_ready = False
        self._bye: Bye | None = None
        self._backoff = Backoff()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    # -- its life ------------------------------------------------------------------------------

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self.end(Closed("the client is closed"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._stay_connected()
        except Exception as error:
            self.end(error)

    def end(self, error: BaseException) -> None:
        """Nothing more comes and nothing more goes. The first error is what everybody hears."""
        if self.error is not None:
            return
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        self._asks.end(error)
        self.news.set()

    @property
    def is_connected(self) -> bool:
        return self._is_ready

    # -- connections ---------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        while True:
            await self._until_there_is_room()
            reason, at_least = await self._connect_once()
            pause = self._backoff.next(at_least)
            log.info("disconnected: %s; connecting again in %.1f s", reason, pause)
            self._inbox.take(Disconnected(reason, pause), me=self._rest.me)
            self.news.set()
            await asyncio.sleep(pause)

    async def _connect_once(self) -> tuple[str, float]:
        """Be connected until that ends: why, and how long the server wants to be left alone.

        Raises where connecting again makes no sense.
        """
        token = self._rest.token or ""
        try:
            socket = await Socket.open(self._url, token, self._context)
            await self._be_connected(socket)
        except Unreachable as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise
            return str(error), 0.0
        except NotNow as error:
            return str(error), error.retry_after
        except SignedOut as error:
            if token == self._rest.token:
                raise
            return str(error), 0.0  # there is a fresh one already
        reason = self._bye.reason if self._bye is not None else "the connection was lost"
        return reason, asked_for(socket.close_code, self._bye)

    @property
    def _url(self) -> str:
        query = {"replay": "resume" if self._listen else "none"}
        if self._explicit or not self._listen:
            query["receipts"] = "explicit"
        return f"ws{self._rest.url.removeprefix('http')}/v1/ws?{urlencode(query)}"

    async def _be_connected(self, socket: Socket) -> None:
        self._bye = None
        self._socket = socket
        try:
            while (data := await socket.read()) is not None:
                self._take(_decoded(data))
                await self._until_there_is_room()
        finally:
            self._is_ready = False
            self._socket = None
            self._outbox.disconnected()
            await socket.close()
        if (final := why_final(socket.close_code, self._bye)) is not None:
            raise final

    async def _until_there_is_room(self) -> None:
        """Not to read on is what slows the server down. But who waits for an answer needs it read:
        what comes in front of it is then taken, and kept short."""
        while self._inbox.is_full and not self._answers and not self._asks:
            self._room.clear()
            await self._room.wait()

    def make_room(self) -> None:
        """Something was handed out, or is asked: there may be reason to read on."""
        self._room.set()

    # -- frames --------------------------------------------------------------------------------

    def _take(self, frame: Inbound | None) -> None:
        match frame:
            case None:
                pass  # of a type that this client does not know
            case Hello():
                self._take_hello(frame)
            case Ready():
                self._take_ready()
            case Sent():
                self._take_sent(frame)
            case ErrorFrame():
                self._take_error(frame)
            case Pong():
                self._asks.pong()
            case Bye():
                self._bye = frame
            case _ if self._listen:
                self._take_news(frame)

    def _take_hello(self, hello: Hello) -> None:
        self._rest.me = hello.user
        self._rest.good_for(hello.expires_in)
        self._inbox.begin(hello.epoch)
        if self._listen and self._socket is not None:
            self._socket.write(frames.resume(self._inbox.cursors))

    def _take_ready(self) -> None:
        self._is_ready = True
        self._backoff.reset()
        self._inbox.take(Connected(self._rest.me), me=self._rest.me)
        self.news.set()
        self._write_letters()
        self._asks.connected()

    def _take_news(self, frame: MessageFrame | Gap | frames.News) -> None:
        if isinstance(frame, Gap):
            self._inbox.take_gap(frame)
        else:
            event = frame.seen_by(self._rest.me) if isinstance(frame, MessageFrame) else frame
            self._inbox.take(event, me=self._rest.me)
        self.news.set()

    def _take_sent(self, sent: Sent) -> None:
        self._inbox.take_sent(sent)
        answer = self._answers.get(sent.client_id or "")
        if answer is not None and not answer.done():
            answer.set_result(sent)
        self._outbox.stored(sent.client_id or "")
        self._write_letters()

    def _take_error(self, error: ErrorFrame) -> None:
        refused = Refused(error.code, error.message, error.retry_after)
        if error.client_id is None:
            self._asks.refused(refused)
        elif refused.is_transient:
            now = asyncio.get_running_loop().time()
            self._outbox.postpone(error.client_id, now + (error.retry_after or _RETRY_SECONDS))
        else:
            answer = self._answers.get(error.client_id)
            if answer is not None and not answer.done():
                answer.set_exception(refused)
            self._outbox.remove(error.client_id)
        self._write_letters()

    # -- what is asked -------------------------------------------------------------------------

    async def send(self, frame: bytes, client_id: str) -> Sent:
        """Send a message until it is stored or refused."""
        self._check_alive()
        if client_id in self._answers:
            raise ValueError(f"a message with the client_id {client_id!r} is on its way")
        answer: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        self._answers[client_id] = answer
        self._outbox.add(client_id, frame)
        self._write_letters()
        self.make_room()
        try:
            return await answer
        finally:
            del self._answers[client_id]
            self._outbox.remove(client_id)
            self._write_letters()

    def ask(self, frame: bytes) -> Awaitable[None]:
        """Have the server take a frame that it answers by errors only."""
        self._check_alive()
        answer = self._asks.ask(frame)
        self.make_room()
        return answer

    def tell(self, frame: bytes) -> None:
        """Send a frame if there is a connection, now or never."""
        if self._socket is not None:
            self._socket.write(frame)

    def _check_alive(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)

    def _write(self, frame: bytes) -> None:
        if self._is_ready:
            self.tell(frame)

    def _write_letters(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_ready:
            return
        loop = asyncio.get_running_loop()
        for letter in self._outbox.due(loop.time()):
            self._write(letter)
        if (wait := self._outbox.wait(loop.time())) is not None:
            self._timer = loop.call_later(wait, self._write_letters)


def _decoded(data: str) -> Inbound | None:
    try:
        return frames.decode(data)
    except msgspec.MsgspecError as error:
        raise Ended(1002, f"the server said what is no frame of chatd's: {error}") from None
