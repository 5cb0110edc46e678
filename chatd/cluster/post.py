"""What goes out: all news of one turn of the loop to one shard is one packet, with a number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from chatd.cluster.packets import Packet, encode_packet
from chatd.cluster.shards import SHARDS
from chatd.news import AnyNews, PeopleNews, StoredNews

_MOST_BYTES: Final = 256 * 1024
"""Of frames in one packet; NATS takes 1 MiB unless it is told otherwise."""
_NEWS_BYTES: Final = 200
"""What else a piece of news weighs, about."""


class Post:
    """Gathers news by shard."""

    def __init__(self, server: str, publish: Callable[[int, bytes], None]) -> None:
        self._server = server
        self._publish = publish
        self._outgoing: dict[int, list[AnyNews]] = {}
        self.sent = [0] * (SHARDS + 1)
        """How many packets went to each shard, whether they could be sent or not."""

    def add(self, shard: int, news: AnyNews) -> None:
        """Send this at the end of the loop's turn."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self.flush)
        self._outgoing.setdefault(shard, []).append(news)

    def flush(self) -> None:
        """Send what is gathered now."""
        outgoing, self._outgoing = self._outgoing, {}
        for shard, gathered in outgoing.items():
            for news in _parts(gathered):
                self.sent[shard] += 1
                packet = Packet(self._server, self.sent[shard], news)
                self._publish(shard, encode_packet(packet))


def _parts(gathered: Sequence[AnyNews]) -> list[list[AnyNews]]:
    """As many packets as it takes; mostly one."""
    parts: list[list[AnyNews]] = [[]]
    size = 0
    for news in gathered:
        weight = _weight(news)
        if size + weight > _MOST_BYTES and parts[-1]:
            parts.append([])
            size = 0
        size += weight
        parts[-1].append(news)
    return parts


def _weight(news: AnyNews) -> int:
    if isinstance(news, StoredNews):
        return _NEWS_BYTES + len(news.frame)
    if isinstance(news, PeopleNews):
        # Characters of an address may be up to four bytes each, but hardly ever are.
        return _NEWS_BYTES + sum(2 + len(one) for one in (*news.came, *news.went))
    return _NEWS_BYTES
