"""Several servers in processes of their own, on one MongoDB, and the NATS between them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.chat import Chat, Json, User
from tests.e2e.cluster.line import Line
from tests.e2e.server import Server
from tests.nats import NatsServer

PATIENCE: Final = 60.0
"""Seconds."""
POLL_SECONDS: Final = 0.02


class Seat:
    """One server and its own line to NATS."""

    def __init__(
        self,
        folder: Path,
        storage: str,
        nats: NatsServer,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Its keys are those of all servers beside it, where the environment names no others."""
        self.line = Line(nats.port)
        self.server = Server(
            folder,
            storage=storage,
            unlimited=True,
            environment={
                "CHATD_AUTH__KEY_FILE": str(folder.parent / "keys.json"),
                "CHATD_CLUSTER__NATS_URL": self.line.url,
                "CHATD_LIMITS__SIGN_IN_FAILURES_PER_MINUTE": "0",
                **(environment or {}),
            },
        )

    def close(self) -> None:
        """Leave nothing behind."""
        self.server.close()
        self.line.close()

    @property
    def alive(self) -> bool:
        return self.server.process.poll() is None

    def said(self, event: str, since: int = 0) -> list[Json]:
        """The lines of its log with this event, from this length of the log on."""
        text = self.server.log.read_text()[since:]
        lines = [line for line in text.splitlines() if f'"{event}"' in line]
        return [json.loads(line) for line in lines]

    @property
    def log_length(self) -> int:
        return len(self.server.log.read_text())


class Team:
    """Servers that know each other."""

    def __init__(self, seats: Sequence[Seat], nats: NatsServer) -> None:
        self.seats = seats
        self.nats = nats
        self.chats: list[Chat] = []

    @property
    def servers(self) -> list[Server]:
        return [seat.server for seat in self.seats]

    @property
    def storage(self) -> str:
        return self.servers[0].storage

    def start(self) -> None:
        """Start all, and return once each knows all others."""
        # Whoever is first makes the keys.
        self.servers[0].start()
        for server in self.servers[1:]:
            server.start()
        self.together()

    def together(self) -> None:
        """Return once each server knows all others that live."""
        living = [seat for seat in self.seats if seat.alive]
        wait_until(lambda: all(neighbours(seat) >= len(living) - 1 for seat in living))

    def mend(self) -> None:
        """Whatever a test has done: all is well again."""
        self.nats.mend()
        for seat in self.seats:
            seat.line.mend()
            seat.server.thaw()
            if not seat.alive:
                seat.server.restart()
        self.together()

    # -- in a test's loop ------------------------------------------------------------------------

    def open(self) -> None:
        """Make the ways to the servers, for a test's loop; `leave` ends them."""
        self.chats = [Chat(server.url) for server in self.servers]

    def leave(self) -> None:
        for chat in self.chats:
            chat.close()

    async def user(self, name: str, at: int = 0) -> User:
        """Sign in at one of the servers."""
        return await self.chats[at].user(f"{name}@example.org")

    def there(self, user: User, at: int) -> User:
        """The same user, with the same token, at another server."""
        return User(self.chats[at], user.email, user.token)

    async def out(self, at: int) -> list[str] | None:
        """What one server says is out; None where it is not ready at all."""
        answer = await self.chats[at].call("GET", "/readyz")
        return list(answer.body.get("out", [])) if answer.status == 200 else None


def neighbours(seat: Seat) -> int:
    """How many others a server knows, as its log has it since its last start."""
    known: set[str] = set()
    for line in seat.server.log.read_text().splitlines():
        if '"cluster.server_came"' in line:
            known.add(json.loads(line)["server"])
        elif '"cluster.server_gone"' in line:
            known.discard(json.loads(line)["server"])
        elif '"server.stopped"' in line:
            known.clear()
    return len(known)


def wait_until(condition: Any) -> None:
    """`until`, where no loop runs."""
    ends_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(POLL_SECONDS)


async def eventually(ask: Any) -> None:
    """Return once what ``ask`` returns, when awaited, is true."""
    async with asyncio.timeout(PATIENCE):
        while not await ask():
            await asyncio.sleep(POLL_SECONDS)
