"""Every place where a request may carry a token, and what is answered there."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from tornado.httputil import HTTPHeaders

from tests.chat import Answer, Chat
from tests.e2e.attacks.bare import CLOSE, BareSocket

SOCKET_PATHS = ("/v1/ws", "/chat/user", "/group/python/connect")

Door = Callable[[Chat, str], Awaitable[int]]
"""What a token is worth there: a status, or the code that a socket is closed with."""


async def handshake(chat: Chat, target: str, *headers: str) -> Answer:
    """What is answered to an opening handshake with these header lines."""
    async with BareSocket(chat.url) as socket:
        head = (await socket.shake(target, *headers)).decode("latin-1")
        status_line, _, lines = head.partition("\r\n")
        answered = HTTPHeaders.parse(lines)
        body = await socket.exactly(int(answered.get("Content-Length", 0)))
        return Answer(int(status_line.split(" ")[1]), json.loads(body or b"null"), answered)


async def _rest(chat: Chat, token: str) -> int:
    return (await chat.call("GET", "/v1/auth/me", token=token)).status


def _header(path: str) -> Door:
    async def knock(chat: Chat, token: str) -> int:
        return (await handshake(chat, path, f"Authorization: Bearer {token}")).status

    return knock


def _query(path: str) -> Door:
    async def knock(chat: Chat, token: str) -> int:
        return (await handshake(chat, f"{path}?Authorization={quote(token)}")).status

    return knock


async def _subprotocol(chat: Chat, token: str) -> int:
    offered = f"Sec-WebSocket-Protocol: chatd.v1, bearer.{token}"
    return (await handshake(chat, "/v1/ws", offered)).status


async def _first_frame(chat: Chat, token: str) -> int:
    async with BareSocket(chat.url) as socket:
        await socket.open()
        await socket.say(type="auth", token=token)
        while (frame := await socket.frame()).opcode != CLOSE:
            if frame.json["type"] == "hello":
                return 101
        return int.from_bytes(frame.payload[:2], "big")


DOORS: dict[str, Door] = {
    "rest": _rest,
    **{f"header of {path}": _header(path) for path in SOCKET_PATHS},
    **{f"query of {path}": _query(path) for path in SOCKET_PATHS},
    "subprotocol": _subprotocol,
    "first frame": _first_frame,
}
