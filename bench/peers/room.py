"""What the small peers say: as much of chatd's frames as the load generator reads."""

from __future__ import annotations

import uuid
from itertools import count
from typing import Final

import msgspec

READY: Final = '{"type":"ready"}'


class _Send(msgspec.Struct):
    text: str
    client_id: str


class _Sent(msgspec.Struct, tag="sent"):
    id: str
    seq: int
    client_id: str


class _Message(msgspec.Struct, tag="message"):
    id: str
    seq: int
    text: str


class Room:
    """One room that everybody is in."""

    def __init__(self) -> None:
        self._seqs = count(1)
        self._decoder = msgspec.json.Decoder(_Send)

    def answers(self, frame: str | bytes) -> tuple[str, str]:
        """What the sender hears of its message, and what the others do."""
        send = self._decoder.decode(frame)
        name, seq = str(uuid.uuid4()), next(self._seqs)
        sent, message = _Sent(name, seq, send.client_id), _Message(name, seq, send.text)
        return msgspec.json.encode(sent).decode(), msgspec.json.encode(message).decode()
