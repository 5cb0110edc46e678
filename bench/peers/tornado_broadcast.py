"""A room as Tornado's documentation has it: ``write_message`` to each."""

from __future__ import annotations

import asyncio

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from bench.peers.room import READY, Room


class RoomHandler(WebSocketHandler):
    """Somebody in the room."""

    def initialize(self, room: Room, everybody: set[RoomHandler]) -> None:
        self._room = room
        self._everybody = everybody

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self._everybody.add(self)
        self.write_message(READY)

    def on_message(self, message: str | bytes) -> None:
        sent, copy = self._room.answers(message)
        self.write_message(sent)
        for other in self._everybody:
            if other is not self:
                other.write_message(copy)

    def on_close(self) -> None:
        self._everybody.discard(self)


async def main() -> None:
    """Serve on a free port, which is printed, until somebody ends it."""
    arguments = {"room": Room(), "everybody": set[RoomHandler]()}
    server = HTTPServer(Application([("/", RoomHandler, arguments)]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
