"""News on its way between servers, as MessagePack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from chatd.news import AnyNews


class Packet(msgspec.Struct, frozen=True, array_like=True):
    """What one server sends to one shard at once; the ``number``-th since it was started."""

    server: str
    number: int
    news: Sequence[AnyNews]


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Packet)


def encode_packet(packet: Packet) -> bytes:
    return _ENCODER.encode(packet)


def decode_packet(data: bytes) -> Packet:
    """Raises `msgspec.MsgspecError` where it is none."""
    return _DECODER.decode(data)
