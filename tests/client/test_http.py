"""Requests to what is no server, not the server, or a server that breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chatd.client import Client, Connected, Refused, Unreachable
from chatd.client.rest import Rest
from tests.certificates import Authority
from tests.chat import PASSWORD, PATIENCE, start_app

ANN = "ann@example.org"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, **options: Any) -> AsyncIterator[int]:
    """A port where connections are served so."""
    serving: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait(serving)


def answering(answer: bytes, *, reset: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if reset:
            await asyncio.sleep(0.05)
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return serve


async def asked(port: int) -> None:
    rest = Rest(f"http://127.0.0.1:{port}", None, None)
    try:
        async with asyncio.timeout(PATIENCE):
            await rest.sign_in(ANN, PASSWORD)
    finally:
        rest.close()


@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_that_breaks_off_is_told_at_once(io_loop: Any, reset: bool) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    async with listening(answering(half, reset=reset)) as port:
        with pytest.raises(Unreachable, match="can't reach"):
            await asked(port)


@pytest.mark.parametrize(
    ("head", "body", "code", "retry_after"),
    [
        ("404 Not Found", "<html>", "unexpected", None),
        ("502 Bad Gateway", "<html>", "unavailable", None),
        ("429 Slow Down\r\nRetry-After: 7", "", "rate_limited", 7.0),
        (
            "503 Away\r\nRetry-After: soon",
            '{"code":"unavailable","detail":"x"}',
            "unavailable",
            None,
        ),
        ("401 No", '{"code":"bad_credentials","detail":"x"}', "bad_credentials", None),
    ],
)
async def test_what_a_proxy_or_a_server_refuses_has_a_code(
    io_loop: Any, head: str, body: str, code: str, retry_after: float | None
) -> None:
    answer = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    async with listening(answering(answer)) as port:
        with pytest.raises(Refused) as refused:
            await asked(port)
    assert (refused.value.code, refused.value.retry_after) == (code, retry_after)
    assert refused.value.is_transient == (code in ("unavailable", "rate_limited"))


async def test_another_server_is_no_chatd(io_loop: Any) -> None:
    async with listening(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as port:
        with pytest.raises(Unreachable, match="does not answer as chatd does"):
            await asked(port)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://a..b"])
async def test_an_address_that_is_none_is_told(io_loop: Any, url: str) -> None:
    with pytest.raises(Unreachable):
        await Client.sign_in(url, ANN, PASSWORD)


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_over_tls_only_who_can_be_trusted_is_talked_to(io_loop: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(authority.issue("127.0.0.1"))
    app = await start_app(tmp_path, server__allowed_hosts=["*"])
    port = int((await app.start()).rpartition(":")[2])
    await app.opened()

    async def to_the_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    async with listening(to_the_server, ssl=own) as secure:
        url = f"https://127.0.0.1:{secure}"
        trusting = ssl.create_default_context(cafile=str(authority.certificate))
        async with await Client.sign_in(url, ANN, PASSWORD, context=trusting) as ann:
            await ann.send("over TLS", to=ANN)
            assert isinstance(await anext(ann), Connected)
        with pytest.raises(Unreachable, match="certificate"):
            await Client.sign_in(url, ANN, PASSWORD)
        async with Client(url, ann.token) as doubting:
            with pytest.raises(Unreachable, match="certificate"):
                await doubting.send("to whom?", to=ANN)
    await app.stop()
