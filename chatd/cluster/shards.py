"""Where news goes: a fixed number of shards, so that no user costs a subscription.

A server listens to a shard while one of its connections carries a conversation that falls there. A
group's news goes to the shard of the group, a pair's to that of each side.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from chatd.models import Conversation, group_of, pair_of

SHARDS: Final = 4096
"""The same on all servers. A server with 1,000 users listens to some 1,100 of these, and hears of
a message between two who are both elsewhere 0.5 times; of 256 it listened to all, and heard twice.
For that it pays 5 KiB for each that it listens to, and a quarter of a millisecond for each other
server's pulse, which has 12 KB (``python -m bench cluster``)."""

EVERYBODY: Final = SHARDS
"""Beside the shards: what all servers hear."""


def digest_of(text: str) -> int:
    """64 bits that are the same on every server."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def shard_of_group(name: str) -> int:
    return digest_of("g:" + name) % SHARDS


def shard_of_user(email: str) -> int:
    return digest_of("u:" + email) % SHARDS


def shards_of(conversation: Conversation) -> set[int]:
    """Where those listen who carry this conversation."""
    group = group_of(conversation)
    if group is not None:
        return {shard_of_group(group)}
    return {shard_of_user(email) for email in pair_of(conversation) or ()}
