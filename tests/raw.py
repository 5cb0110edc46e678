"""HTTP requests byte for byte, for what no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders

from tests.chat import PATIENCE, Answer

_READ_BYTES = 65_536


async def send_raw(
    url: str, request: str, body: bytes = b"", *, patience: float = PATIENCE
) -> Answer:
    """Send a request's head, with ``Connection: close``, and its body; what was answered.

    ``request`` is the request line and, a line each, the headers. The answer is heard while
    the body is still being sent, and counts even where the server then reads no further, after
    ``patience`` seconds at most.
    """
    address = urlsplit(url)
    head = "\r\n".join([*request.splitlines(), "Connection: close", "", ""])
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (address.hostname, address.port))
        sending = asyncio.create_task(_send(connection, head.encode("latin-1") + body))
        data = await asyncio.wait_for(_receive(connection), patience)
        sending.cancel()
        await asyncio.wait([sending])
    return _answer(data)


async def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(connection, data)


async def _receive(connection: socket.socket) -> bytes:
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := await asyncio.get_running_loop().sock_recv(connection, _READ_BYTES):
            data += part
    return bytes(data)


def chunked(*parts: bytes) -> bytes:
    """A body of undeclared length, a chunk for each part (RFC 9112 section 7.1)."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def _answer(data: bytes) -> Answer:
    head, _, content = data.partition(b"\r\n\r\n")
    status_line, _, lines = head.decode("latin-1").partition("\r\n")
    headers = HTTPHeaders.parse(lines)
    is_json = content and "json" in headers.get("Content-Type", "")
    body = json.loads(content) if is_json else content.decode(errors="replace") or None
    return Answer(int(status_line.split(" ")[1]), body, headers)
