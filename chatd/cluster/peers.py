"""The other servers: who lives, who is on line there, and whether all they sent has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from chatd.cluster.shards import EVERYBODY, SHARDS, digest_of
from chatd.models import now_ms
from chatd.news import AskNews, PeopleNews, PulseNews

PULSE_SECONDS: Final = 2.0
_GONE_SECONDS: Final = 8.0
"""After so long without a packet a server counts as gone."""
_MISSED_SECONDS: Final = 600.0
"""For so long it may yet be there, cut off from NATS."""
_LATE_SECONDS: Final = 0.5
"""A pulse may overtake what was sent before it to a shard."""
_ASK_SECONDS: Final = 1.0
_CLOCK_SECONDS: Final = 30.0


class Listener(Protocol):
    """Who hears what becomes of the others."""

    def edge(self, user: str, online: bool) -> None:
        """A user has come on line at any of them, or is at none any more."""

    def lost(self, shards: Collection[int]) -> None:
        """Some of what was sent to these shards has not come."""

    def tell(self, news: AskNews) -> None:
        """Say this to all."""

    def came(self, server: str) -> None:
        """A server is heard for the first time."""

    def gone(self, server: str) -> None:
        """A server says that it leaves, or is not heard any more."""

    def clock(self, server: str, seconds: float) -> None:
        """A server's clock is ahead of this one's, or behind, by so much."""

    def keys(self, server: str, keys: Sequence[str]) -> None:
        """Fingerprints of the keys that a server has."""


class Digest:
    """How many users there are, and who, in 64 bits."""

    def __init__(self) -> None:
        self.people = 0
        self.bits = 0

    def change(self, user: str, *, came: bool) -> None:
        self.people += 1 if came else -1
        self.bits ^= digest_of(user)


class _Peer:
    """One other server."""

    def __init__(self, now: float) -> None:
        self.heard_at = now
        self.asked_at = 0.0
        # Of packets to each shard: what is there before it is first heard counts as missed.
        self.numbers = [0] * (SHARDS + 1)
        self.users: set[str] = set()
        self.digest = Digest()
        self.pulse: PulseNews | None = None
        self.clock_told = False


class Peers:
    """Everything that is known of the others."""

    def __init__(self, listener: Listener, listens: Callable[[int], bool]) -> None:
        """``listens``: whether packets to a shard come here at all."""
        self._listener = listener
        self._listens = listens
        self._peers: dict[str, _Peer] = {}
        self._where: dict[str, set[str]] = {}
        self._missed: dict[str, float] = {}
        self._now = asyncio.get_running_loop().time

    def online(self) -> Mapping[str, Collection[str]]:
        """The users who are on line elsewhere, and where."""
        return self._where

    def servers(self) -> Collection[str]:
        return self._peers.keys()

    def complete(self) -> bool:
        """Whether there are others, and none of them fell silent a while ago: what such a one
        stores, if it is cut off from NATS, nobody hears of."""
        since = self._now() - _MISSED_SECONDS
        self._missed = {server: at for server, at in self._missed.items() if at > since}
        return bool(self._peers) and not self._missed

    # -- packets -----------------------------------------------------------------------------

    def packet(self, server: str, shard: int, number: int) -> None:
        """A packet has come; a hole in the numbers is told of."""
        peer = self._peer(server)
        peer.heard_at = self._now()
        known = peer.numbers[shard]
        if number > known + 1:
            self._listener.lost({shard})
        peer.numbers[shard] = max(number, known)

    def _peer(self, server: str) -> _Peer:
        peer = self._peers.get(server)
        if peer is None:
            peer = self._peers[server] = _Peer(self._now())
            self._missed.pop(server, None)
            self._listener.came(server)
        return peer

    def pulse(self, server: str, pulse: PulseNews) -> None:
        """A server says how it stands."""
        peer = self._peer(server)
        if len(pulse.sent) != len(peer.numbers):
            return
        if pulse.leaving:
            self._count(peer, pulse.sent)
            self._remove(server)
            return
        if peer.pulse is None or peer.pulse.keys != pulse.keys:
            self._listener.keys(server, pulse.keys)
        self._look_at_clock(server, peer, pulse)
        peer.pulse = pulse
        # What it told of people came by the same way, before this.
        if (peer.digest.people, peer.digest.bits) != (pulse.people, pulse.digest):
            self._ask(server, peer)
        asyncio.get_running_loop().call_later(_LATE_SECONDS, self._compare, server, pulse)

    def _look_at_clock(self, server: str, peer: _Peer, pulse: PulseNews) -> None:
        seconds = (pulse.at - now_ms()) / 1000
        if abs(seconds) > _CLOCK_SECONDS and not peer.clock_told:
            peer.clock_told = True
            self._listener.clock(server, seconds)

    def _compare(self, server: str, pulse: PulseNews) -> None:
        """Whether all that the server had sent by its pulse has come."""
        peer = self._peers.get(server)
        if peer is None:
            return
        self._count(peer, pulse.sent)

    def _count(self, peer: _Peer, sent: Sequence[int]) -> None:
        missed = {n for n, number in enumerate(sent) if peer.numbers[n] < number}
        for shard in missed:
            peer.numbers[shard] = sent[shard]
        # What is sent to others only is not missed here.
        lost = {shard for shard in missed if self._listens(shard)}
        if lost:
            self._listener.lost(lost)

    def _ask(self, server: str, peer: _Peer) -> None:
        now = self._now()
        if now - peer.asked_at >= _ASK_SECONDS:
            peer.asked_at = now
            self._listener.tell(AskNews(server))

    # -- people ------------------------------------------------------------------------------

    def people(self, server: str, news: PeopleNews) -> None:
        """Who came and went at a server."""
        peer = self._peer(server)
        if news.whole:
            self._change(server, peer, (), peer.users - set(news.came))
        self._change(server, peer, news.came, news.went)

    def _change(self, server: str, peer: _Peer, came: Iterable[str], went: Iterable[str]) -> None:
        for user in came:
            if user not in peer.users:
                peer.users.add(user)
                peer.digest.change(user, came=True)
                servers = self._where.setdefault(user, set())
                servers.add(server)
                if len(servers) == 1:
                    self._listener.edge(user, True)
        for user in went:
            if user in peer.users:
                peer.users.discard(user)
                peer.digest.change(user, came=False)
                servers = self._where[user]
                servers.discard(server)
                if not servers:
                    del self._where[user]
                    self._listener.edge(user, False)

    # -- the end -----------------------------------------------------------------------------

    async def watch_forever(self) -> None:
        """The coroutine that looks who is silent."""
        while True:
            await asyncio.sleep(PULSE_SECONDS / 2)
            long_ago = self._now() - _GONE_SECONDS
            for server in [name for name, one in self._peers.items() if one.heard_at < long_ago]:
                self._remove(server)
                self._missed[server] = self._now()
                # What it stored last it may not have told anybody.
                self._listener.lost(range(EVERYBODY + 1))

    def _remove(self, server: str) -> None:
        peer = self._peers.pop(server)
        self._change(server, peer, (), set(peer.users))
        self._listener.gone(server)
