"""Clients that log all they send and all they are answered, for tests that put faults in."""

from __future__ import annotations

import asyncio

from tests.chat import Json, Socket, User

_IN_FLIGHT = 8
_PAUSE = 0.2
"""Seconds until a refused message is sent again."""


class Sender:
    """Sends numbered messages to a group until it is stopped, each again until it is acked."""

    def __init__(self, user: User, group: str) -> None:
        self.user = user
        self.acked: dict[str, Json] = {}
        self.refused: list[str] = []
        self._group = group
        self._count = 0
        self._stopping = False

    async def run(self) -> None:
        """Send until `stop`, and return once everything is acked."""
        async with self.user.socket() as socket, asyncio.TaskGroup() as tasks:
            for _ in range(_IN_FLIGHT):
                tasks.create_task(self._send_one_by_one(socket))

    def stop(self) -> None:
        self._stopping = True

    async def _send_one_by_one(self, socket: Socket) -> None:
        while not self._stopping:
            self._count += 1
            await self._send(socket, f"{self.user.email} {self._count}")

    async def _send(self, socket: Socket, name: str) -> None:
        while name not in self.acked:
            answer = await socket.ask(name, group=self._group, text=name)
            if answer["type"] == "sent":
                self.acked[name] = answer
            else:
                self.refused.append(answer["code"])
                await asyncio.sleep(_PAUSE)


async def received(socket: Socket, user: User, group: str) -> list[str]:
    """The texts that a socket brought, in order, with what its gaps told the user to fetch."""
    found = {frame["seq"]: frame["text"] for frame in socket.of("message")}
    for gap in socket.of("gap"):
        after, last = gap["from_seq"] - 1, gap["to_seq"]
        while after < last:
            path = f"/v1/groups/{group}/messages?after_seq={after}&limit=200"
            items = (await user.call("GET", path)).body["items"]
            found.update({item["seq"]: item["text"] for item in items if item["seq"] <= last})
            after = items[-1]["seq"]
    assert sorted(found) == list(range(1, len(found) + 1)), "a hole that was not announced"
    return [found[seq] for seq in sorted(found)]
