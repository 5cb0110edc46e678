"""Users with devices on several servers, who talk in a group and to each other."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress

from chatd.models import Conversation, group_of, pair_of
from tests.chat import User
from tests.e2e.cluster.team import Team
from tests.e2e.faults.checker import Counts, check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Acked, Gap, Receipt
from tests.e2e.faults.stored import Row, in_mongo


class Talk:
    """A group that all are in, and a pair of the first two.

    Each user has a device on every server. The first device of each user, on a server of its own,
    is the one that sends.
    """

    def __init__(self, team: Team, name: str, devices: Sequence[Device]) -> None:
        self.team = team
        self.group = name
        self.devices = list(devices)
        self.others: list[Device] = []
        """Who need not have everything."""
        self.speakers = list({one.user.email: one for one in reversed(self.devices)}.values())[::-1]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, pause: float = 0.005) -> None:
        """Have the speakers talk until `end`."""
        for one in self.speakers:
            self._say(one.keep_sending(pause=pause, group=self.group))
        ann, bob = self.speakers[:2]
        self._say(ann.keep_sending(pause=pause, to=bob.user.email))
        self._say(bob.keep_sending(pause=pause, to=ann.user.email))

    def _say(self, sending: object) -> None:
        assert asyncio.iscoroutine(sending)
        self._tasks.append(asyncio.create_task(sending))

    async def begin(self) -> None:
        """`start`, once every device has something of each conversation: of one that it has
        nothing of it has no cursor, and gets what no other device has confirmed."""
        await self.say(1)
        for one in self.speakers:
            await one.all_acked()
        await until(self.has_come)
        self.start()

    async def say(self, count: int) -> None:
        """Have each speaker say so much to the group, and the pair to each other."""
        ann, bob = self.speakers[:2]
        await asyncio.gather(
            *(one.keep_sending(count, group=self.group) for one in self.speakers),
            ann.keep_sending(count, to=bob.user.email),
            bob.keep_sending(count, to=ann.user.email),
        )

    async def end(self, last_words: int = 0) -> None:
        """Return once all that was sent is acked, has come everywhere, and is receipted.

        Where devices were off line, have each speaker say a few ``last_words``: of a receipt that
        it missed it does not hear again.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self.speakers:
            await one.all_acked()
        if last_words:
            await self.say(last_words)
        with suppress(TimeoutError):  # `check` says what is missing then
            await until(lambda: self.has_come() and self.is_receipted())

    @property
    def acked(self) -> int:
        return sum(1 for one in self.speakers for _ in one.log.of(Acked))

    def _last(self) -> dict[str, int]:
        """The last that was acked of each conversation."""
        last: dict[str, int] = defaultdict(int)
        for one in self.speakers:
            for ack in one.log.of(Acked):
                last[ack.conversation] = max(last[ack.conversation], ack.seq)
        return last

    def last(self, conversation: str) -> int:
        return self._last()[conversation]

    def has_come(self) -> bool:
        """Whether every device has all that was acked by now."""
        last = self._last()
        return all(
            device.top(conversation) >= seq
            for conversation, seq in last.items()
            for device in self.devices
            if _is_of(conversation, device.user)
        )

    def is_receipted(self) -> bool:
        """Whether each speaker knows that every other user has its last messages."""
        return all(self._knows(one) for one in self.speakers)

    def _knows(self, speaker: Device) -> bool:
        last: dict[str, int] = {}
        for ack in speaker.log.of(Acked):
            last[ack.conversation] = max(ack.seq, last.get(ack.conversation, 0))
        told: dict[tuple[str, str], int] = {}
        for one in speaker.log.of(Receipt):
            key = one.conversation, one.by
            told[key] = max(one.seq, told.get(key, 0))
        return all(
            told.get((conversation, user.email), 0) >= seq
            for conversation, seq in last.items()
            for user in self._users()
            if _is_of(conversation, user) and user.email != speaker.user.email
        )

    def _users(self) -> Iterable[User]:
        return [one.user for one in self.speakers]

    def check(self) -> Counts:
        """What is stored, against what everybody saw."""
        devices = [*self.devices, *self.others]
        conversations = {one.conversation for d in devices for one in d.log.of(Acked)}
        rows = [row for row in in_mongo(self.team.storage) if row.conversation in conversations]
        counts = check(
            [device.log for device in devices],
            rows,
            complete=[device.log for device in self.devices],
        )
        assert self.is_receipted(), self._missing_receipts(rows)
        return counts

    def _missing_receipts(self, rows: Sequence[Row]) -> str:
        return "\n".join(
            f"{one.log.device}: {list(one.log.of(Receipt))[-3:]}"
            for one in self.speakers
            if not self._knows(one)
        )

    def check_undisturbed(self) -> None:
        """Nobody had to connect again, and nobody was told of a gap."""
        devices = [*self.devices, *self.others]
        assert {one.log.device: one.connection for one in devices if one.connection != 1} == {}
        assert [gap for one in self.devices for gap in one.log.of(Gap)] == []


def _is_of(conversation: str, user: User) -> bool:
    key = Conversation(conversation)
    return group_of(key) is not None or user.email in (pair_of(key) or ())


There = Callable[[Team, User, int], Awaitable[User]]


async def same_token(team: Team, user: User, at: int) -> User:
    return team.there(user, at)


async def start_talk(
    team: Team, exits: AsyncExitStack, name: str, users: int = 3, there: There = same_token
) -> Talk:
    """Users by the name of the group, with devices everywhere; ``there`` is how they come to
    another server."""
    devices: list[Device] = []
    for number in range(users):
        user = await team.user(f"{name}-{number}", number % len(team.seats))
        await (user.join(name) if number else user.create(name))
        for step in range(len(team.seats)):
            at = (number + step) % len(team.seats)
            device = Device(await there(team, user, at), f"{user.email} at {at}", resume=True)
            devices.append(device)
    for device in devices:
        await exits.enter_async_context(device)
    return Talk(team, name, devices)
