"""One order for each conversation, whoever writes at once and wherever one listens (G5)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chatd.models import Conversation, group_conversation, pair_of
from tests.chat import Chat, User
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.checker import check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Acked, Log, Sent
from tests.e2e.faults.stored import Row, in_store, over_rest
from tests.e2e.faults.traffic import answers
from tests.e2e.server import Server

pytestmark = pytest.mark.timeout(120)

SENDERS = 8
WINDOW = 20
"""How many messages of a sender may be unacked: enough to fill batches."""

CLUB = group_conversation("club")


class RestSender:
    """Sends over REST, and logs it as a device does; each request is a connection of its own."""

    def __init__(self, user: User) -> None:
        self.log = Log(user.email, f"{user.email} over REST")
        self._user = user

    async def send(self, messages: int) -> None:
        for number in range(1, messages + 1):
            text = client_id = f"{self.log.device} {number}"
            self.log.events.append(Sent(client_id, CLUB, text, connection=number))
            answer = await self._user.call(
                "POST", "/v1/groups/club/messages", {"text": text, "client_id": client_id}
            )
            assert answer.status == 201, answer
            seq, message_id = answer.body["seq"], answer.body["id"]
            self.log.events.append(
                Acked(CLUB, seq, message_id, client_id, duplicate=False, connection=number)
            )


class Crowd(NamedTuple):
    """Eight users who all write at once, with sockets and over REST, and all listen."""

    devices: list[Device]
    rest: list[RestSender]

    @property
    def logs(self) -> list[Log]:
        return [*(one.log for one in self.devices), *(one.log for one in self.rest)]

    @property
    def pairs(self) -> Iterator[tuple[Device, Device]]:
        """Each device and one that it writes to, of a user of the other server."""
        half = SENDERS // 2
        for n in range(half):
            one, other = self.devices[n], self.devices[half + (n + 1) % half]
            yield from ((one, other), (other, one))

    async def talk(self, messages: int) -> None:
        """Each writes so many to the group both ways, and as many to one other user."""
        async with asyncio.TaskGroup() as tasks:
            for device in self.devices:
                tasks.create_task(device.keep_sending(messages, window=WINDOW, group="club"))
            for one, other in self.pairs:
                to = other.user.email
                tasks.create_task(one.keep_sending(messages, window=WINDOW, to=to))
            for sender in self.rest:
                tasks.create_task(sender.send(messages))

    async def equal(self) -> None:
        """Return once everybody has all of their conversations."""
        last: Counter[str] = Counter()
        for ack in (ack for log in self.logs for ack in log.of(Acked)):
            last[ack.conversation] = max(ack.seq, last[ack.conversation])
        await until(
            lambda: all(
                device.top(conversation) == seq
                for device in self.devices
                for conversation, seq in last.items()
                if device.user.email
                in (pair_of(Conversation(conversation)) or (device.user.email,))
            )
        )

    async def come_again(self) -> None:
        """Everybody connects anew, and so hears what another server has stored."""
        for device in self.devices:
            await device.disconnect()
        for device in self.devices:
            device.connect()
        await until(lambda: all(device.ready.is_set() for device in self.devices))


async def gather(chats: Sequence[Chat], stack: AsyncExitStack) -> Crowd:
    """They are at the servers by turns; half of them keep cursors."""
    for chat in chats:
        await answers(chat, 200)
    users = [await chats[n % len(chats)].user(f"s{n}@example.org") for n in range(SENDERS)]
    await users[0].create("club")
    for user in users[1:]:
        await user.join("club")
    devices = [Device(user, resume=n % 4 < 2) for n, user in enumerate(users)]
    for device in devices:
        await stack.enter_async_context(device)
    return Crowd(devices, [RestSender(user) for user in users])


async def test_everybody_has_what_many_write_at_once_in_one_order(
    io_loop: Any, make_server: MakeServer, storage_url: str, scale: Scale, report: Report
) -> None:
    """Seen to fail where a sender is acked before it has what others wrote before that."""
    server = make_server(storage=storage_url, unlimited=True)
    async with AsyncExitStack() as stack:
        chat = Chat(server.start())
        stack.callback(chat.close)
        crowd = await gather([chat], stack)
        await crowd.talk(scale(50, 1000))
        await crowd.equal()
        stored = [row async for row in shown(crowd)]
        report(str(check(crowd.logs, stored, complete=[one.log for one in crowd.devices])))
    if storage_url != "memory:":
        assert server.terminate() == 0
        stored = in_store(storage_url, server.data_dir)
        check(crowd.logs, stored, complete=[one.log for one in crowd.devices])


async def shown(crowd: Crowd) -> AsyncIterator[Row]:
    """What can be read of all conversations."""
    for row in await over_rest(crowd.devices[0].user, "club"):
        yield row
    for one, other in list(crowd.pairs)[::2]:
        for row in await over_rest(one.user, other.user.email, "user"):
            yield row


async def test_two_servers_on_one_database_make_one_order(
    io_loop: Any, mongo_url: str, tmp_path: Path, scale: Scale, report: Report
) -> None:
    """Seen to fail where the inserts are not ordered, and where two may take one number.

    Servers tell each other no news yet: what another one stored is announced as a gap, or comes
    on connecting.
    """
    async with AsyncExitStack() as stack:
        chats = []
        for name in ("a", "b"):
            server = Server(tmp_path / name, storage=mongo_url, unlimited=True)
            stack.callback(server.close)
            chats.append(Chat(server.start()))
            stack.callback(chats[-1].close)
        crowd = await gather(chats, stack)
        await crowd.talk(scale(50, 500))
        await crowd.come_again()
        await crowd.equal()
    stored = in_store(mongo_url, tmp_path)
    report(str(check(crowd.logs, stored, complete=[one.log for one in crowd.devices])))
