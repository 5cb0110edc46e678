"""A central uuid generator that can be told to misbehave.

``GET /?count=N`` answers a JSON array of N uuids, or what its fault makes of that; ``PUT /fault``
with the name of a fault as its body switches. A program as well::

    python -m tests.uuid_generator --port 9000 [--fault error]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import uuid
from collections.abc import Callable
from enum import StrEnum

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler


class Fault(StrEnum):
    """What the generator does wrong."""

    NONE = "none"
    ERROR = "error"
    """Answers 500."""
    GARBAGE = "garbage"
    """Answers a page."""
    NOT_UUIDS = "not_uuids"
    """Answers an array of other texts."""
    NIL = "nil"
    """Answers the nil uuid."""
    NOTHING = "nothing"
    """Answers an empty array."""
    TOO_MANY = "too_many"
    """Answers one more than was asked for."""
    TWICE = "twice"
    """Has one uuid twice in its answer."""
    STUCK = "stuck"
    """Answers the same uuids every time."""
    SLOW = "slow"
    """Answers after a minute."""


class Generator:
    """Makes the answers, and counts them."""

    def __init__(self, fault: Fault = Fault.NONE) -> None:
        self.fault = fault
        self.requests = 0
        self._stuck = self._make(10_000)

    def answer(self, count: int) -> str:
        """The body of an answer to a request for ``count``."""
        bodies: dict[Fault, Callable[[], object]] = {
            Fault.NOT_UUIDS: lambda: ["0001"] * count,
            Fault.NIL: lambda: [str(uuid.UUID(int=0))],
            Fault.NOTHING: list,
            Fault.TOO_MANY: lambda: self._make(count + 1),
            Fault.TWICE: lambda: self._make(1) * 2,
            Fault.STUCK: lambda: self._stuck[:count],
        }
        if self.fault == Fault.GARBAGE:
            return "<html>It works!</html>"
        return json.dumps(bodies.get(self.fault, lambda: self._make(count))())

    def _make(self, count: int) -> list[str]:
        # Upper case: valid, but not the canonical form.
        return [str(uuid.uuid4()).upper() for _ in range(count)]

    def app(self) -> Application:
        """The generator as a Tornado application."""
        given = {"generator": self}
        return Application([("/", _UuidsHandler, given), ("/fault", _FaultHandler, given)])


class _Handler(RequestHandler):
    def initialize(self, generator: Generator) -> None:
        self.generator = generator


class _UuidsHandler(_Handler):
    async def get(self) -> None:
        self.generator.requests += 1
        if self.generator.fault == Fault.SLOW:
            await asyncio.sleep(60)
        if self.generator.fault == Fault.ERROR:
            self.send_error(500)
            return
        self.set_header("Content-Type", "application/json")
        self.finish(self.generator.answer(int(self.get_query_argument("count"))))


class _FaultHandler(_Handler):
    def put(self) -> None:
        self.generator.fault = Fault(self.request.body.decode())
        self.set_status(204)


async def _serve(port: int, fault: Fault) -> None:
    sockets = bind_sockets(port, "127.0.0.1")
    server = HTTPServer(Generator(fault).app())
    server.add_sockets(sockets)
    sys.stdout.write(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _main() -> None:
    parser = argparse.ArgumentParser(description="A central uuid generator that can misbehave.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--fault", type=Fault, choices=list(Fault), default=Fault.NONE)
    options = parser.parse_args()
    try:
        asyncio.run(_serve(options.port, options.fault))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    _main()
