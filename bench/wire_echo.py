"""An echo server on chatd's own WebSocket protocol, for the Autobahn test suite to examine.

``python -m bench.wire_echo --port 9001``; every path is a socket that says everything back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from chatd.frames import websocket_frame
from chatd.wire import Wire

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""Autobahn's longest messages have 16 MiB."""

_TEXT: Final = 0x1
_BINARY: Final = 0x2


class EchoHandler(WebSocketHandler):
    """Says back what it hears."""

    def initialize(self) -> None:
        self._wire: Wire | None = None

    def check_origin(self, origin: str) -> bool:
        return True

    def get_websocket_protocol(self) -> Wire | None:
        self._wire = Wire(self, MAX_MESSAGE_BYTES)
        return self._wire

    async def on_message(self, message: str | bytes) -> None:
        assert self._wire is not None
        if isinstance(message, str):
            self._wire.write(websocket_frame(_TEXT, message.encode()))
        else:
            self._wire.write(websocket_frame(_BINARY, message))
        # Or a peer that never reads would have all it says kept here.
        await self._wire.drained()


async def serve(port: int) -> None:
    """Serve on this port of the loopback interface until somebody ends it."""
    server = HTTPServer(Application([(".*", EchoHandler)]))
    server.listen(port, "127.0.0.1")
    print(f"listening on ws://127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.wire_echo", description=__doc__)
    parser.add_argument("--port", type=int, default=9001, help="(default: 9001)")
    asyncio.run(serve(parser.parse_args(arguments).port))


if __name__ == "__main__":
    main(sys.argv[1:])
