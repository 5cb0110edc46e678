"""What comes before a socket's first frame: tokens, origins, limits, and what it carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tornado.websocket import WebSocketHandler

from chatd.accounts import Session
from chatd.connection import EVERYTHING, Scope, one_group
from chatd.errors import BadRequest, Invalid, RateLimited
from chatd.handlers.base import TOKEN_ARGUMENT
from chatd.handlers.pages import PageHandler
from chatd.handlers.services import Services
from chatd.networks import place_of
from chatd.wire import Wire

_SUBPROTOCOL: Final = "chatd.v1"
_TOKEN_SUBPROTOCOL: Final = "bearer."
_ARGUMENTS: Final = frozenset({TOKEN_ARGUMENT, "replay", "receipts"})
_HANDSHAKE_ONLY: Final = (
    "_body_future",
    "arguments",
    "body_arguments",
    "connection",
    "headers",
    "query_arguments",
    "server_connection",
)
_REPLAYS: Final = ("undelivered", "resume", "none")
_RECEIPTS: Final = ("automatic", "explicit")


class HandshakeHandler(PageHandler, WebSocketHandler):
    """The opening handshake (RFC 6455 section 4.2); without an Upgrade, a page."""

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self.scope: Scope = EVERYTHING
        self.wire: Wire | None = None
        self.replay = "undelivered"
        self.explicit = False

    async def get(self, **path: str) -> None:
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            self.page()
            return
        self.services.state.check_taking_sockets()
        if "upgrade" not in self.request.headers.get("Connection", "").lower():
            raise BadRequest("a WebSocket handshake has the header Connection: Upgrade")
        self.check_origin_allowed()
        token = self._token()
        self._read_arguments()
        self._check_address_limit()
        self.scope = self.scope_of(path)
        async with self.services.newcomers:
            if token is not None:
                self.session = await self.services.session(token)
                await self.check_may_open(self.session)
            # It may have begun to drain since. What follows opens the socket in this very turn.
            self.services.state.check_taking_sockets()
            await super().get()

    def page(self) -> None:
        """The answer to a browser that asks for a page."""
        raise BadRequest("this address speaks WebSocket: connect with a WebSocket client")

    def scope_of(self, path: Mapping[str, str]) -> Scope:
        """What a socket at this address carries."""
        return EVERYTHING

    def _read_arguments(self) -> None:
        self.check_no_surplus_arguments(_ARGUMENTS)
        self.replay = self._choice("replay", _REPLAYS)
        self.explicit = self._choice("receipts", _RECEIPTS) == "explicit"

    def _choice(self, name: str, choices: tuple[str, ...]) -> str:
        value: str = self.get_query_argument(name, choices[0])
        if value not in choices:
            raise Invalid.field(name, f"must be one of: {', '.join(choices)}")
        return value

    def _token(self) -> str | None:
        """The token, from any one of the places where a handshake may carry it."""
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        return self.one_token(
            name.strip().removeprefix(_TOKEN_SUBPROTOCOL)
            for name in offered
            if name.strip().startswith(_TOKEN_SUBPROTOCOL)
        )

    def _check_address_limit(self) -> None:
        limit = self.services.settings.limits.connections_per_address
        if limit and self.services.sockets.count(place_of(self.client_address)) >= limit:
            raise RateLimited("too many connections from this network address", 5)

    async def check_may_open(self, session: Session) -> None:
        """Refuse one socket too many of a user, and a group's to who is no member."""
        limit = self.services.settings.limits.connections_per_user
        if limit and len(self.services.registry.of_user(session.user.email)) >= limit:
            raise RateLimited(f"a user may have {limit} connections; close one first", 5)
        if self.scope.only_group is not None:
            name = await self.services.router.require_member(
                session.user.email, self.scope.only_group
            )
            self.scope = one_group(name)

    def forget_request(self) -> None:
        """Let go of what only the handshake needed: it would stay for as long as the socket."""
        for name in _HANDSHAKE_ONLY:
            vars(self.request).pop(name, None)
        for name in ("_headers", "body"):
            vars(self).pop(name, None)

    def check_origin(self, origin: str) -> bool:
        # check_origin_allowed() has decided: Tornado asks only where Origin and Host differ.
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return _SUBPROTOCOL if _SUBPROTOCOL in subprotocols else None

    def get_websocket_protocol(self) -> Wire | None:
        if self.request.headers.get("Sec-WebSocket-Version") != "13":
            return None
        limit = self.services.settings.limits.frame_bytes
        self.wire = Wire(self, limit or 1 << 30)
        return self.wire
