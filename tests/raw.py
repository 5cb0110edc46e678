"""HTTP requests byte for byte, for what no client library would send."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders

from tests.chat import PATIENCE, Answer


async def send_raw(url: str, request: str, *parts: bytes) -> Answer:
    """Send a request's head, ``Connection: close`` added, then the parts of its body.

    ``request`` is the request line and, a line each, the headers. The answer is all that comes
    until the server closes.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = "\r\n".join([*request.splitlines(), "Connection: close", "", ""])
    try:
        for part in (head.encode("latin-1"), *parts):
            writer.write(part)
            await writer.drain()
        data = await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
    return _answer(data)


def chunk(data: bytes) -> bytes:
    """A chunk of a body of undeclared length (RFC 9112 section 7.1); the empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def _answer(data: bytes) -> Answer:
    head, _, content = data.partition(b"\r\n\r\n")
    status_line, _, lines = head.decode("latin-1").partition("\r\n")
    headers = HTTPHeaders.parse(lines)
    is_json = content and "json" in headers.get("Content-Type", "")
    body = json.loads(content) if is_json else content.decode() or None
    return Answer(int(status_line.split(" ")[1]), body, headers)
