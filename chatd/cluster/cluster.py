"""This server among others: what happens here is told to them, what they tell happens here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Protocol

from chatd.cluster.bus import Access, Bus
from chatd.cluster.chore import Chore
from chatd.cluster.healing import Healer
from chatd.cluster.interest import Interest
from chatd.cluster.packets import decode_packet
from chatd.cluster.peers import PULSE_SECONDS, Digest, Peers
from chatd.cluster.post import Post
from chatd.cluster.receiver import Receiver
from chatd.cluster.rooms import Rooms
from chatd.cluster.sequencer import Sequencer
from chatd.cluster.shards import (
    EVERYBODY,
    SHARDS,
    shard_of_group,
    shard_of_user,
    shards_of,
)
from chatd.errors import Unavailable
from chatd.models import Advance, Conversation, group_of, now_ms, other_of
from chatd.news import (
    AnyNews,
    AskNews,
    MembershipNews,
    PeopleNews,
    PulseNews,
    ReadNews,
    ReceiptNews,
    StoredNews,
    TypingNews,
    UserClosedNews,
)

_OUT_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 3.0
_REST: Final = 10
"""How many times as long as a look took until the next: it must not be all that the store does."""
_PEOPLE: Final = 500
"""Users in one piece of news."""


class Observer(Protocol):
    """Who hears how the cluster does."""

    def cluster_changed(self, event: str, **facts: str) -> None: ...

    def healed(self, shards: int) -> None: ...

    def news_heard(self, kind: str) -> None: ...

    def news_told(self, kind: str) -> None: ...

    def failed(self, event: str, error: BaseException) -> None: ...


class Cluster:
    """The neighbours of this server, over NATS."""

    def __init__(
        self, access: Access, observer: Observer, fingerprints: Callable[[], Sequence[str]]
    ) -> None:
        """``fingerprints`` of the keys that tokens are good with here, that of the one that signs
        first."""
        self.server = secrets.token_hex(6)
        self._access = access
        self._observer = observer
        self._fingerprints = fingerprints
        self._interest = Interest(self._want)
        self._digest = Digest()
        self._peers = Peers(self, self._interest.__contains__)
        self._bus: Bus | None = None
        self._post = Post(self.server, self._publish)
        self._tasks: list[asyncio.Task[None]] = []

    def attach(self, rooms: Rooms, edge: Callable[[str, bool], None]) -> None:
        """Take the rooms that news is for, once they are built; ``edge`` hears who comes on line
        elsewhere, and who goes."""
        self._rooms = rooms
        self._edge = edge
        self._sequencer = Sequencer(
            rooms.router.heads,
            rooms.storage,
            tell=rooms.router.hear_stored,
            told=rooms.router.flush,
            beginning=self._beginning,
            own=rooms.journal.told,
            gave_up=self._gave_up,
            failed=partial(self._observer.failed, "cluster.tell_failed"),
        )
        self._healer = Healer(rooms, self._sequencer, self.listening, self._observer)
        self._receiver = Receiver(rooms, self._sequencer, self._healer, self._observer.failed)
        rooms.registry.on_edge(self._person)
        rooms.registry.on_interest(self._carried)

    async def _beginning(self, conversation: Conversation, before: int) -> int:
        return await self._healer.beginning(conversation, before)

    def _gave_up(self, conversation: Conversation) -> None:
        asyncio.get_running_loop().call_later(
            _LOOK_SECONDS, self._healer.lost, shards_of(conversation)
        )

    def start(self, epoch: str) -> None:
        """Go to NATS. ``epoch``: the store's, by which those who share it find each other."""
        self._bus = Bus(self._access, f"chatd.{epoch}", self._heard, self)
        for shard in self._interest:
            self._bus.want(shard, True)
        for coroutine in (
            self._bus.run_forever(),
            self._peers.watch_forever(),
            self._healer.sessions.run_forever(),
            self._healer.ill.run_forever(),
            self._look_forever(self._healer.sessions),
            self._look_forever(self._healer.everything),
        ):
            self._run(coroutine)
        self._pulsing = self._run(self._pulse_forever())

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observer.failed("cluster.coroutine_failed", error)

    async def close(self) -> None:
        """Say good-bye to the others, and let go of NATS."""
        if self._bus is None:
            return
        # A pulse behind the good-bye would say that this server is there.
        self._pulsing.cancel()
        self._post.add(EVERYBODY, self._pulse(leaving=True))
        self._post.flush()
        await self._bus.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._receiver.close()
        await self._sequencer.close()
        await self._bus.close()

    # -- what this server tells --------------------------------------------------------------

    def stored(
        self, conversation: Conversation, seq: int, frame: bytes, tell: Callable[[], None]
    ) -> None:
        """See `chatd.neighbours.Neighbours`."""
        self.tell(StoredNews(conversation, seq, frame))
        if self._rooms.registry.carries(conversation):
            self._sequencer.take(conversation, seq, tell)
        else:
            tell()

    def receipt(self, advance: Advance, tell: Callable[[Advance], None]) -> None:
        """See `chatd.neighbours.Neighbours`."""
        # What is stored here may have been told elsewhere first, with what came behind it.
        self._healer.tell_receipt(advance, tell)
        self.tell(ReceiptNews(advance))

    def tell(self, news: AnyNews) -> None:
        """See `chatd.neighbours.Neighbours`."""
        self._observer.news_told(type(news).__name__)
        for shard in _shards(news):
            self._post.add(shard, news)
        if isinstance(news, MembershipNews):
            self._receiver.catch_up(news)
        elif isinstance(news, UserClosedNews):
            self._healer.told.forget(news.email)

    async def admit(self, group: str, user: str) -> None:
        """See `chatd.neighbours.Neighbours`."""
        try:
            member = await self._rooms.storage.member(group, user)
            if member is not None:
                await self._healer.give(member)
        except Unavailable as error:
            # They have joined: what they miss now the next replay gives.
            self._observer.failed("cluster.not_caught_up", error)

    def _publish(self, shard: int, data: bytes) -> None:
        if self._bus is not None:
            self._bus.publish(shard, data)

    async def settled(self) -> None:
        """See `chatd.neighbours.Neighbours`."""
        await self._sequencer.settled()

    async def listening(self) -> None:
        """See `chatd.neighbours.Neighbours`."""
        if self._bus is not None:
            await self._bus.listening()

    def _person(self, user: str, online: bool) -> None:
        self._digest.change(user, came=online)
        self._healer.person(user, online=online)
        self._interest.change(shard_of_user(user), more=online)
        self.tell(PeopleNews([user], []) if online else PeopleNews([], [user]))

    def _carried(self, group: str, carried: bool) -> None:
        self._interest.change(shard_of_group(group), more=carried)
        if carried:
            self._healer.begin(group)

    def _want(self, shard: int, wanted: bool) -> None:
        if self._bus is not None:
            self._bus.want(shard, wanted)

    async def _pulse_forever(self) -> None:
        while True:
            self.tell(self._pulse())
            await asyncio.sleep(PULSE_SECONDS)

    async def _look_forever(self, chore: Chore) -> None:
        """While NATS is out, the store is all there is to learn from; so it is where others are
        not heard there: it may be out for them, or in parts."""
        while True:
            await asyncio.sleep(_OUT_SECONDS)
            while self.out() or not self._peers.complete():
                seconds = await chore.do_now()
                await asyncio.sleep(max(_LOOK_SECONDS, _REST * seconds))

    def _pulse(self, *, leaving: bool = False) -> PulseNews:
        return PulseNews(
            sent=list(self._post.sent),
            people=self._digest.people,
            digest=self._digest.bits,
            keys=list(self._fingerprints()),
            at=now_ms(),
            leaving=leaving,
        )

    # -- what the others tell ----------------------------------------------------------------

    async def _heard(self, shard: int, data: bytes) -> None:
        try:
            packet = decode_packet(data)
            self._peers.packet(packet.server, shard, packet.number)
            for news in packet.news:
                self._observer.news_heard(type(news).__name__)
                self._hear(packet.server, news)
            self._rooms.router.flush()
        except Exception as error:
            # Whatever was meant: what is in the store is found there.
            self._observer.failed("cluster.bad_packet", error)
            self._healer.lost({shard})

    def _hear(self, server: str, news: AnyNews) -> None:
        if isinstance(news, PulseNews):
            self._peers.pulse(server, news)
        elif isinstance(news, PeopleNews):
            self._peers.people(server, news)
        elif isinstance(news, AskNews):
            if news.server == self.server:
                self._tell_people()
        else:
            self._receiver.hear(news)

    def _tell_people(self) -> None:
        """Everybody who is on line here."""
        users = sorted(self._rooms.registry.online_users())
        self.tell(PeopleNews(users[:_PEOPLE], [], whole=True))
        for start in range(_PEOPLE, len(users), _PEOPLE):
            self.tell(PeopleNews(users[start : start + _PEOPLE]))

    # -- what becomes of the others, and of the way to them -------------------------------------

    def online(self) -> Collection[str]:
        """See `chatd.neighbours.Neighbours`."""
        return self._peers.online()

    def out(self) -> Collection[str]:
        """See `chatd.neighbours.Neighbours`."""
        return () if self._bus is not None and self._bus.connected else ("nats",)

    @property
    def neighbours(self) -> int:
        """How many other servers are heard."""
        return len(self._peers.servers())

    def edge(self, user: str, online: bool) -> None:
        self._edge(user, online)

    def lost(self, shards: Collection[int]) -> None:
        self._healer.lost(shards)

    def came(self, server: str) -> None:
        self._observer.cluster_changed("cluster.server_came", server=server)
        self.tell(self._pulse())

    def gone(self, server: str) -> None:
        self._observer.cluster_changed("cluster.server_gone", server=server)

    def clock(self, server: str, seconds: float) -> None:
        self._observer.cluster_changed(
            "cluster.clocks_differ",
            server=server,
            seconds=f"{seconds:.0f}",
            remedy="set the clocks of all servers by NTP: tokens end early, or are not good yet",
        )

    def keys(self, server: str, keys: Sequence[str]) -> None:
        if not set(keys[:1]) <= set(self._fingerprints()):
            self._observer.cluster_changed(
                "cluster.keys_differ",
                server=server,
                remedy="give all servers the same auth.key_file: tokens that this one makes are"
                " not good here, nor ours there",
            )

    def bus_changed(self, event: str, detail: str) -> None:
        self._observer.cluster_changed(event, detail=detail)
        if event == "cluster.connected":
            # What was told meanwhile has gone by; and the others don't know who is here.
            self.heard_late()
            self.tell(self._pulse())

    def heard_late(self) -> None:
        self._healer.lost(range(SHARDS + 1))


def _shards(news: AnyNews) -> Collection[int]:
    """Where those listen whom the news concerns."""
    if isinstance(news, StoredNews):
        return shards_of(news.conversation)
    if isinstance(news, TypingNews):
        if group_of(news.conversation) is not None:
            return shards_of(news.conversation)
        return (shard_of_user(other_of(news.conversation, news.user)),)
    if isinstance(news, ReceiptNews):
        return _shards_of_writers(news.advance)
    if isinstance(news, ReadNews):
        return (shard_of_user(news.user),)
    return (EVERYBODY,)


def _shards_of_writers(advance: Advance) -> Collection[int]:
    """Where those listen who wrote what it covers; most marks are of one's own messages alone."""
    if advance.senders and group_of(advance.conversation) is not None:
        return shards_of(advance.conversation)
    return {shard_of_user(one) for one in advance.senders}
