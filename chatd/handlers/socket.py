"""The WebSocket: authentication, frames in, and the one place for errors in frames."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Final

from chatd.accounts import Session
from chatd.connection import ONE_TO_ONE, Connection, Login, Scope, one_group
from chatd.errors import (
    BadRequest,
    ChatError,
    ClientIdReused,
    CloseCode,
    Forbidden,
    Invalid,
    NotAMember,
    RateLimited,
    Unauthenticated,
    UnknownGroup,
)
from chatd.frames import (
    PROTOCOL_VERSION,
    AnyInbound,
    Auth,
    Bye,
    Cursor,
    ErrorFrame,
    Hello,
    Ping,
    PongFrame,
    Read,
    Received,
    Resume,
    Send,
    Typing,
    client_id_of,
    decode,
    encode,
    sent_frame,
)
from chatd.handlers.base import Route, as_chat_error
from chatd.handlers.handshake import HandshakeHandler
from chatd.handlers.services import Services
from chatd.models import (
    ClientIdConflict,
    Conversation,
    Duplicate,
    Outcome,
    ReceiptKind,
    group_conversation,
    now_ms,
    pair_conversation,
    rfc3339,
)
from chatd.networks import place_of
from chatd.router import no_such_group

_FRAME_SECONDS: Final = 10.0
"""How long the server waits for an ``auth`` or a ``resume`` frame."""
_BAD_FRAMES: Final = 3
_RECONNECT: Final = (CloseCode.GOING_AWAY, CloseCode.FLOODING, CloseCode.TIMEOUT)
_KNOWN_CODES: Final = frozenset(CloseCode)
_RATE_LIMITED_FRAMES: Final = 100


class SocketHandler(HandshakeHandler):
    """A live socket of a user, for all conversations."""

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self.connection: Connection | None = None
        self._starting: asyncio.Task[None] | None = None
        # What frames wait for until the connection has started; then there is none.
        self._start_event: asyncio.Event | None = asyncio.Event()
        self._resumed: asyncio.Future[Resume] | None = None
        self._auth_deadline: asyncio.TimerHandle | None = None
        self._bad_frames = 0
        self._rate_limited_frames = 0

    # -- the life of a socket ----------------------------------------------------------------

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self._address = self.client_address
        self.services.sockets.add(self, place_of(self._address))
        self.forget_request()
        if self.session is not None:
            self._begin(self.session)
        else:
            self._auth_deadline = asyncio.get_running_loop().call_later(
                _FRAME_SECONDS, self._end, CloseCode.TIMEOUT, "no auth frame in time"
            )

    def _begin(self, session: Session) -> None:
        services, wire = self.services, self.wire
        if wire is None or wire.is_closing():
            # It was told bye, or went, while its token was looked at.
            return
        if services.accounts.is_ended(session.claims):
            self._end(CloseCode.UNAUTHENTICATED, "signed out")
            return
        self.session = session
        self.connection = connection = Connection(
            services.ids.take(),
            _login(session),
            self.scope,
            wire,
            services.flusher,
            explicit=self.explicit,
        )
        services.registry.add(connection)
        services.metrics.connections_opened.inc()
        services.log.info(
            "socket.opened",
            connection_id=connection.id,
            user_id=session.user.id,
            address=self._address,
            request_id=self.request_id,
        )
        connection.write(encode(self._hello(connection, session)))
        self._resumed = asyncio.get_running_loop().create_future()
        self._starting = asyncio.create_task(self._start(connection, self._resumed))

    def _hello(self, connection: Connection, session: Session) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            user=connection.user,
            connection_id=connection.id,
            epoch=self.services.state.epoch,
            expires_in=int(_seconds_left(session)),
            server_time=rfc3339(now_ms()),
        )

    async def _start(self, connection: Connection, resumed: asyncio.Future[Resume]) -> None:
        """Load the user's groups, replay, go live."""
        try:
            try:
                await self.services.router.load_groups(connection.user)
            finally:
                # Frames wait for this, and the closing handshake behind them.
                self._set_started()
            await self.services.neighbours.listening()
            if self.replay == "none":
                await self.services.replayer.skip(connection)
            else:
                cursors = await self._cursors(resumed) if self.replay == "resume" else {}
                count = await self.services.replayer.replay(connection, cursors)
                self.services.metrics.replayed(count)
            self.services.presence.welcome(connection)
        except TimeoutError:
            connection.end(CloseCode.TIMEOUT, "no resume frame in time", reconnect=True)
        except Exception as error:
            self.services.metrics.failed("socket.start_failed", error)
            connection.end(CloseCode.INTERNAL_ERROR, "try again", reconnect=True, after=1)
        finally:
            self._starting = None

    def _set_started(self) -> None:
        assert self._start_event is not None
        self._start_event.set()
        self._start_event = None

    async def _cursors(self, resumed: asyncio.Future[Resume]) -> dict[Conversation, int]:
        async with asyncio.timeout(_FRAME_SECONDS):
            resume = await resumed
        if resume.epoch != self.services.state.epoch:
            return {}
        return {self._cursor_conversation(cursor): cursor.seq for cursor in resume.cursors}

    def _cursor_conversation(self, cursor: Cursor) -> Conversation:
        if cursor.user is not None:
            return pair_conversation(self.user, cursor.user.strip().lower())
        return group_conversation((cursor.group or "").strip().lower())

    def on_pong(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.pong(data)

    def on_close(self) -> None:
        self.services.sockets.remove(self)
        if self._auth_deadline is not None:
            self._auth_deadline.cancel()
        if self._starting is not None:
            self._starting.cancel()
        self.wire = None
        code = _close_label(self.close_code)
        if self.connection is not None:
            self.connection.gone()
            self.services.registry.remove(self.connection)
            self.services.metrics.connections_closed.labels(code).inc()
            self.services.log.info(
                "socket.closed",
                connection_id=self.connection.id,
                code=code,
                request_id=self.request_id,
            )

    # -- frames ------------------------------------------------------------------------------

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Take a frame; the next is read once what this returns is done."""
        if self.connection is not None and self.connection.closing:
            return None
        if isinstance(message, bytes):
            self._end(CloseCode.UNSUPPORTED_DATA, "frames are text")
            return None
        try:
            frame = decode(message)
            self.services.metrics.frame_received(frame)
            if not isinstance(frame, Send) or not self._sent_at_once(frame):
                return self._take(frame, message)
            self._bad_frames = 0
        except RateLimited as error:
            self._refuse(error, client_id_of(message))
        except Exception as error:
            return self._refuse_in_turn(error, message)
        return self._room()

    def _room(self) -> Awaitable[None] | None:
        """Not reading on is what tells a client that it sends more than can be stored."""
        journal = self.services.journal
        return journal.room() if journal.full else None

    def _sent_at_once(self, frame: Send) -> bool:
        """Whether a message could be sent without asking the storage where it may go."""
        connection = self.connection
        if connection is None or self._start_event is not None:
            return False
        conversation = self.services.router.known_conversation(
            connection.user, to=frame.to, group=self._group(frame.to, frame.group)
        )
        if conversation is None or not self.scope.covers(conversation):
            return False
        self._send(connection, conversation, frame)
        return True

    async def _take(self, frame: AnyInbound, message: str) -> None:
        """What may have to wait: for its turn, the storage, or the connection's start."""
        try:
            if self.connection is not None:
                await self._turn(self.connection.user)
            if isinstance(frame, Auth):
                await self._authenticate(frame)
            elif self.connection is None:
                self._end(CloseCode.UNAUTHENTICATED, "the first frame must be auth")
            else:
                await self._handle(self.connection, frame)
            self._bad_frames = 0
        except Exception as error:
            self._refuse(error, client_id_of(message))

    async def _refuse_in_turn(self, error: Exception, message: str) -> None:
        """What is refused at sight counts as a call like any other."""
        if self.connection is not None:
            await self._turn(self.connection.user)
        self._refuse(error, client_id_of(message))

    async def _turn(self, user: str) -> None:
        """Return once the user may call again: till then nothing more is read, nor lost."""
        now = asyncio.get_running_loop().time
        wait = self.services.calls.take(user, now())
        while wait:
            await asyncio.sleep(wait)
            wait = self.services.calls.take(user, now())

    async def _authenticate(self, frame: Auth) -> None:
        try:
            session = await self.services.session(frame.token)
            if self.connection is None:
                await self.check_may_open(session)
        except Unauthenticated:
            self._end(CloseCode.UNAUTHENTICATED, "the token is not good")
        except UnknownGroup:
            self._end(CloseCode.UNKNOWN_GROUP, "no such group")
        except NotAMember:
            self._end(CloseCode.NOT_A_MEMBER, "not a member")
        except RateLimited as error:
            self._end(CloseCode.FLOODING, error.detail[:100])
        else:
            self._accept(session)

    def _accept(self, session: Session) -> None:
        if self.connection is None:
            if self._auth_deadline is not None:
                self._auth_deadline.cancel()
            self._begin(session)
        elif session.user.email != self.connection.user:
            raise Forbidden("this socket is another user's; open a new one")
        else:
            self.session = session
            self.connection.login = _login(session)

    async def _handle(self, connection: Connection, frame: AnyInbound) -> None:
        match frame:
            case Resume():
                self._resume(frame)
                return
            case Ping():
                connection.write(encode(PongFrame()))
                return
        if self._start_event is not None:
            await self._start_event.wait()
        if connection.closing:
            return
        match frame:
            case Send():
                conversation = await self._conversation(frame.to, frame.group)
                self._send(connection, conversation, frame)
                await self.services.journal.room()
            case Received():
                conversation = await self._own_conversation(frame.sender, frame.group)
                await self._claim(connection, conversation, ReceiptKind.DELIVERED, frame.seq)
            case Read():
                conversation = await self._own_conversation(frame.sender, frame.group)
                await self._claim(connection, conversation, ReceiptKind.READ, frame.seq)
            case Typing():
                conversation = await self._own_conversation(frame.to, frame.group)
                self.services.router.typing(connection.user, conversation)

    def _group(self, to: str | None, group: str | None) -> str | None:
        """The group a frame means: on a group's own socket the target may be left out."""
        return self.scope.only_group if to is None and group is None else group

    async def _conversation(self, to: str | None, group: str | None) -> Conversation:
        """The conversation a frame names, which must be one that this socket carries."""
        group = self._group(to, group)
        conversation = await self.services.router.conversation(self.user, to=to, group=group)
        if not self.scope.covers(conversation):
            raise Forbidden("this socket does not carry that conversation; use /v1/ws")
        return conversation

    async def _own_conversation(self, to: str | None, group: str | None) -> Conversation:
        """The same, for what means something in one's own conversations only: a group that one is
        not in is answered as one that is not there."""
        try:
            return await self._conversation(to, group)
        except NotAMember:
            raise no_such_group(str(self._group(to, group))) from None

    async def _claim(
        self, connection: Connection, conversation: Conversation, kind: ReceiptKind, seq: int
    ) -> None:
        await self.services.router.claim(connection.user, conversation, kind, seq, connection)

    def _resume(self, frame: Resume) -> None:
        if self.replay != "resume" or self._resumed is None or self._resumed.done():
            raise BadRequest("resume comes once, right after hello, with ?replay=resume")
        for number, cursor in enumerate(frame.cursors):
            if (cursor.user is None) == (cursor.group is None):
                raise Invalid.field(
                    f"cursors[{number}]", "must name a user or a group, and one only"
                )
        self._resumed.set_result(frame)

    def _send(self, connection: Connection, conversation: Conversation, frame: Send) -> None:
        def done(outcome: Outcome | ChatError) -> None:
            if isinstance(outcome, ClientIdConflict):
                outcome = ClientIdReused("this client_id was sent with another text or target")
            if isinstance(outcome, ChatError):
                self._write_error(outcome, frame.client_id)
            else:
                duplicate = isinstance(outcome, Duplicate)
                connection.write(encode(sent_frame(outcome.message, duplicate=duplicate)))

        self.services.router.send(
            connection.user, conversation, frame.text, frame.client_id, done, connection
        )
        # One good send makes up for one refused: a flood is one though some of it get through.
        self._rate_limited_frames = max(0, self._rate_limited_frames - 1)

    # -- refusals ----------------------------------------------------------------------------

    def _refuse(self, error: Exception, client_id: str | None) -> None:
        if not isinstance(error, ChatError):
            self.services.metrics.failed("socket.frame_failed", error)
        refusal = as_chat_error(error, 500)
        self._write_error(refusal, client_id)
        if isinstance(refusal, RateLimited):
            self._rate_limited_frames += 1
            if self._rate_limited_frames >= _RATE_LIMITED_FRAMES:
                self._end(CloseCode.FLOODING, "flooding")
        # Nothing else bounds what waits for who has not said yet who they are.
        none_at_all = BadRequest if self.connection is not None else (BadRequest, Invalid)
        if isinstance(refusal, none_at_all):
            self._bad_frames += 1
            if self._bad_frames >= _BAD_FRAMES:
                self._end(CloseCode.BAD_FRAMES, "three frames in a row were none")
        else:
            self._bad_frames = 0

    def _write_error(self, error: ChatError, client_id: str | None) -> None:
        self.services.metrics.refusals.labels(error.code).inc()
        frame = ErrorFrame(
            code=error.code,
            message=error.detail,
            client_id=client_id,
            retry_after=getattr(error, "retry_after", None),
        )
        if self.connection is not None:
            self.connection.write(encode(frame))
        elif self.wire is not None:
            self.wire.write(encode(frame))

    def go_away(self) -> None:
        """Say that the server is stopping, and close."""
        self._end(CloseCode.GOING_AWAY, "the server is stopping", after=1)

    def _end(self, code: CloseCode, reason: str, after: float | None = None) -> None:
        reconnect = code in _RECONNECT
        if self.connection is not None:
            self.connection.end(code, reason, reconnect=reconnect, after=after)
        elif self.wire is not None:
            self.wire.write(encode(Bye(reason=reason, reconnect=reconnect, after=after)))
            self.close(code, reason)


def _login(session: Session) -> Login:
    return Login(
        user=session.user.email,
        user_id=session.user.id,
        token_id=session.claims.token_id,
        generation=session.claims.generation,
        ends_at=asyncio.get_running_loop().time() + _seconds_left(session),
    )


def _close_label(code: int | None) -> str:
    """The code for logs and metrics; a client may send any number."""
    if code is None:
        return "none"
    return str(code) if code in _KNOWN_CODES else "other"


def _seconds_left(session: Session) -> float:
    return max(0, session.claims.expires_at - now_ms()) / 1000


class OneToOneHandler(SocketHandler):
    """The one-to-one page, and its socket."""

    def page(self) -> None:
        self.show("chat.html")

    def scope_of(self, path: Mapping[str, str]) -> Scope:
        return ONE_TO_ONE


class GroupSocketHandler(SocketHandler):
    """A group's page, and its socket."""

    def page(self) -> None:
        self.show("chat.html")

    def scope_of(self, path: Mapping[str, str]) -> Scope:
        return one_group(path["name"].strip().lower())


ROUTES = [
    Route("/v1/ws", SocketHandler),
    Route("/chat/user", OneToOneHandler),
    Route("/group/{name}/connect", GroupSocketHandler),
]
