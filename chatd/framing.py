"""WebSocket framing (RFC 6455 section 5) without I/O: a client's bytes in, messages out.

`FrameReader` is fed whatever the network brings and cuts it into whole messages and control
frames, so that a thousand of them in one chunk cost one turn of the loop. What the RFC forbids
raises a `FramingError` with the close code to send; so does too large a message, as soon as its
size is declared and before any of it is kept.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Final

from chatd.errors import CloseCode

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_LONGEST_CONTROL: Final = 125
_SHORTEST: Final = 2
_PIECES: Final = 64
_KNOWN: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_Utf8: Final = codecs.getincrementaldecoder("utf-8")
_UNUSABLE_CODES: Final = frozenset((1004, 1005, 1006))

Event = tuple[int, "str | bytes"]
"""An opcode and a payload: a whole text (`str`) or binary message, or a control frame."""

Unmask = Callable[[bytes, bytes], bytes]
"""From the four bytes of a mask and a payload to what the client meant (section 5.3)."""


class FramingError(Exception):
    """The client broke the framing; ``code`` and ``reason`` are for the close frame."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """Cuts one client's bytes into messages and control frames."""

    __slots__ = (
        "_decoder",
        "_fragments",
        "_kept",
        "_kept_bytes",
        "_limit",
        "_needed",
        "_opcode",
        "_unmask",
    )

    def __init__(self, limit: int, unmask: Unmask) -> None:
        """``limit``: the largest message in bytes, all its fragments together."""
        self._limit = limit
        self._unmask = unmask
        # What has come of the frame that is being waited for, and how many bytes it takes.
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._needed = _SHORTEST
        # The message whose fragments are being gathered; its opcode is 0 where there is none.
        self._opcode = 0
        self._fragments: bytes | bytearray = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        """The messages and control frames that end in ``data``, in order.

        Go through all of them before feeding more. Nothing that comes behind a close frame is
        looked at (section 1.4).

        Raises:
            FramingError: the client broke the framing. The reader is of no use any more.
        """
        data = self._with_kept(data)
        at, end = 0, len(data)
        while end - at >= self._needed:
            first, mask_at, size = _head(data, at)
            if mask_at > end:
                break
            self._check(first, data[at + 1], size)
            payload_at = mask_at + 4
            frame_end = payload_at + size
            if frame_end > end:
                self._needed = frame_end - at
                break
            payload = self._unmask(data[mask_at:payload_at], data[payload_at:frame_end])
            at = frame_end
            self._needed = _SHORTEST
            if first == _FINAL | TEXT:
                yield TEXT, _utf8(payload.decode)
            else:
                yield from self._other(first, payload)
                if first & 0x0F == CLOSE:
                    return
        if at < end:
            self._kept.append(data[at:])
            self._kept_bytes = end - at

    def _with_kept(self, data: bytes) -> bytes:
        """``data`` behind what was kept; nothing while that is not a whole frame yet."""
        if not self._kept:
            return data
        self._kept.append(data)
        if len(self._kept) > _PIECES:
            # Who sends a byte at a time must not make a thing of each.
            self._kept[:] = [b"".join(self._kept)]
        self._kept_bytes += len(data)
        if self._kept_bytes < self._needed:
            return b""
        data = b"".join(self._kept)
        self._kept.clear()
        return data

    def _other(self, first: int, payload: bytes) -> Iterator[Event]:
        """What a frame comes to that is no whole text."""
        opcode = first & 0x0F
        if opcode == CLOSE:
            _check_close(payload)
        if opcode >= CLOSE:
            yield opcode, payload
        else:
            yield from self._gathered(first, payload)

    def _check(self, first: int, second: int, size: int) -> None:
        """Refuse a frame by its head alone."""
        opcode = first & 0x0F
        if not second & _MASKED:
            raise _forbidden("a client's frames are masked")
        if first & _RESERVED or opcode not in _KNOWN:
            raise _forbidden("no extension is agreed that would give this frame a meaning")
        if opcode >= CLOSE:
            if size > _LONGEST_CONTROL or not first & _FINAL:
                raise _forbidden("control frames are short and whole")
            return
        if (opcode == CONTINUATION) != bool(self._opcode):
            raise _forbidden("fragments of one message follow each other")
        if size + len(self._fragments) > self._limit:
            raise FramingError(CloseCode.TOO_BIG, f"messages have at most {self._limit} bytes")

    def _gathered(self, first: int, payload: bytes) -> Iterator[Event]:
        """The message that this frame ends, if it does."""
        final, opcode = first & _FINAL, first & 0x0F
        if opcode != CONTINUATION:
            if final:
                yield opcode, payload
                return
            self._opcode = opcode
            self._fragments = bytearray()
            self._decoder = _Utf8() if opcode == TEXT else None
        self._fragments += payload
        if self._decoder is not None:
            # Each fragment by itself, so that what is no UTF-8 is refused before the end comes.
            _utf8(self._decoder.decode, payload, bool(final))
        if final:
            opcode, self._opcode = self._opcode, 0
            whole, self._fragments = bytes(self._fragments), b""
            yield opcode, whole.decode() if opcode == TEXT else whole


def close_code(payload: bytes) -> int | None:
    """The code of a close frame that `FrameReader` let pass; None where it has none."""
    return int.from_bytes(payload[:2], "big") if payload else None


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """A frame's first byte, where its mask stands, and its size, if ``data`` goes that far."""
    size = data[at + 1] & 0x7F
    if size < 126:
        return data[at], at + 2, size
    mask_at = at + (4 if size == 126 else 10)
    return data[at], mask_at, int.from_bytes(data[at + 2 : mask_at], "big")


def _check_close(payload: bytes) -> None:
    """Refuse a close frame that section 7.4 does not know."""
    code = close_code(payload)
    if code is None:
        return
    usable = (1000 <= code <= 1014 and code not in _UNUSABLE_CODES) or 3000 <= code <= 4999
    if len(payload) < 2 or not usable:
        raise _forbidden("a close frame has a code that may be sent, or nothing")
    _utf8(bytes.decode, payload[2:])


def _utf8(decode: Callable[..., str], *arguments: object) -> str:
    try:
        return decode(*arguments)
    except UnicodeDecodeError:
        raise FramingError(CloseCode.INVALID_UTF8, "text frames are UTF-8") from None


def _forbidden(reason: str) -> FramingError:
    return FramingError(CloseCode.PROTOCOL_ERROR, reason)
