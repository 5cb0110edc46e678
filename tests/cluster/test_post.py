"""What goes out: packets with numbers, to few shards."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from chatd.cluster.interest import Interest
from chatd.cluster.packets import Packet, decode_packet
from chatd.cluster.post import Post
from chatd.cluster.shards import EVERYBODY, SHARDS, shard_of_group, shard_of_user, shards_of
from chatd.models import group_conversation, pair_conversation
from chatd.news import AnyNews, StoredNews, TypingNews
from tests.chat import eventually

CLUB = group_conversation("club")


def stored(seq: int, size: int = 10) -> StoredNews:
    return StoredNews(CLUB, seq, b"x" * size)


class Sent:
    """What a post has published."""

    def __init__(self) -> None:
        self.packets: list[tuple[int, Packet]] = []
        self.post = Post(
            "me", lambda shard, data: self.packets.append((shard, decode_packet(data)))
        )


async def test_all_of_one_turn_is_one_packet_for_each_shard(io_loop: Any) -> None:
    sent = Sent()
    news: list[AnyNews] = [stored(1), stored(2), TypingNews(CLUB, "ann")]
    for one in news:
        sent.post.add(7, one)
    sent.post.add(8, news[0])
    assert sent.packets == []
    await asyncio.sleep(0)
    assert sent.packets == [(7, Packet("me", 1, news)), (8, Packet("me", 1, news[:1]))]
    sent.post.add(7, news[0])
    await asyncio.sleep(0)
    assert sent.packets[-1] == (7, Packet("me", 2, news[:1]))
    assert (sent.post.sent[7], sent.post.sent[8]) == (2, 1)


async def test_packets_stay_below_what_nats_takes(io_loop: Any) -> None:
    sent = Sent()
    for seq in range(1, 101):
        sent.post.add(7, stored(seq, 16_000))
    sent.post.flush()
    assert len(sent.packets) > 1
    assert all(len(msgspec.msgpack.encode(packet)) < 512 * 1024 for _, packet in sent.packets)
    told = [one for _, packet in sent.packets for one in packet.news]
    assert told == [stored(seq, 16_000) for seq in range(1, 101)]
    assert [packet.number for _, packet in sent.packets] == list(range(1, len(sent.packets) + 1))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\xa1s\x01", b'{"server":"s"}'])
def test_what_is_no_packet_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_packet(data)


def test_a_conversation_is_heard_where_its_people_are() -> None:
    assert shards_of(CLUB) == {shard_of_group("club")}
    pair = pair_conversation("ann@example.org", "bob@example.org")
    assert shards_of(pair) == {shard_of_user("ann@example.org"), shard_of_user("bob@example.org")}
    used = {shard_of_user(f"user-{number}@example.org") for number in range(100_000)}
    assert used == set(range(SHARDS)), "people are spread over all shards"


async def test_a_shard_is_listened_to_while_there_is_a_reason(
    io_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.cluster.interest._LINGER_SECONDS", 0.01)
    wanted: list[tuple[int, bool]] = []
    interest = Interest(lambda shard, more: wanted.append((shard, more)))
    assert EVERYBODY in interest
    for more in (True, True, False):
        interest.change(3, more=more)
    await asyncio.sleep(0.05)
    assert (wanted, 3 in interest) == ([(3, True)], True)
    interest.change(3, more=False)
    interest.change(3, more=True)
    await asyncio.sleep(0.05)
    assert wanted == [(3, True)], "who comes back at once makes no difference"
    interest.change(3, more=False)
    await eventually(lambda: wanted == [(3, True), (3, False)])
    assert 3 not in interest
