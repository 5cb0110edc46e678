"""Framing without a network: what is cut out of bytes, however they are cut up on the way."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.util import _websocket_mask

from chatd.errors import CloseCode
from chatd.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Event,
    FrameReader,
    FramingError,
    close_code,
)

LIMIT = 70_000
FIN = 0x80


def frame(opcode: int, payload: bytes, *, final: bool = True, mask: bytes = b"mask") -> bytes:
    """A frame as a client sends it (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", opcode | FIN * final, FIN | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", opcode | FIN * final, FIN | 126, size)
    else:
        head = struct.pack("!BBQ", opcode | FIN * final, FIN | 127, size)
    return head + mask + _websocket_mask(mask, payload)


def reader(limit: int = LIMIT) -> FrameReader:
    return FrameReader(limit, _websocket_mask)


def events(*chunks: bytes, limit: int = LIMIT) -> list[Event]:
    cutter = reader(limit)
    return [event for chunk in chunks for event in cutter.feed(chunk)]


def refusal(*chunks: bytes) -> FramingError:
    with pytest.raises(FramingError) as caught:
        events(*chunks)
    return caught.value


def fragments(payload: bytes, cuts: list[int], opcode: int) -> bytes:
    """A message in as many frames as there are cuts and one more, a Ping between each two."""
    bounds = [0, *sorted(cut % (len(payload) + 1) for cut in cuts), len(payload)]
    parts = [payload[a:b] for a, b in pairwise(bounds)]
    frames = [
        frame(CONTINUATION if number else opcode, part, final=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]
    return frame(PING, b"between").join(frames)


MESSAGES = st.one_of(
    st.tuples(st.just(TEXT), st.text(max_size=300)),
    st.tuples(st.just(BINARY), st.binary(max_size=300)),
    st.tuples(st.sampled_from((PING, PONG)), st.binary(max_size=125)),
)


def encoded(event: tuple[int, Any]) -> bytes:
    payload = event[1]
    return payload.encode() if isinstance(payload, str) else bytes(payload)


@given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(0, 3000), max_size=12))
def test_however_the_bytes_are_cut_up_the_messages_are_the_same(
    sent: list[tuple[int, Any]], cuts: list[int]
) -> None:
    data = b"".join(frame(event[0], encoded(event)) for event in sent)
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(bounds)]
    assert events(*chunks) == sent


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)), st.lists(st.integers(0, 999)))
def test_fragments_make_one_message_and_control_frames_come_between_them(
    message: str | bytes, cuts: list[int]
) -> None:
    opcode = TEXT if isinstance(message, str) else BINARY
    payload = message.encode() if isinstance(message, str) else message
    found = events(fragments(payload, cuts, opcode))
    assert found == [(PING, b"between")] * len(cuts) + [(opcode, message)]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, LIMIT])
def test_every_form_of_a_length_is_understood_byte_by_byte(size: int) -> None:
    data = frame(BINARY, b"x" * size)
    cutter = reader()
    found = [event for byte in data[:20] for event in cutter.feed(bytes([byte]))]
    found += cutter.feed(data[20:])
    assert found == [(BINARY, b"x" * size)]


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"x" * (LIMIT + 1))[:14],
        frame(TEXT, b"x" * LIMIT, final=False) + frame(CONTINUATION, b"x")[:2],
        struct.pack("!BBQ", FIN | TEXT, FIN | 127, 1 << 63),
    ],
    ids=["one frame", "fragments", "absurd"],
)
def test_too_large_a_message_is_refused_by_its_declared_size(data: bytes) -> None:
    assert refusal(data).code is CloseCode.TOO_BIG


def test_many_fragments_of_nothing_are_one_empty_message() -> None:
    data = frame(TEXT, b"", final=False) + frame(CONTINUATION, b"", final=False) * 1000
    assert events(data, frame(CONTINUATION, b"")) == [(TEXT, "")]


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"\xff"),
        frame(TEXT, "✓".encode()[:2]),
        frame(TEXT, b"\xed\xa0\x80"),
        frame(TEXT, b"fine", final=False) + frame(CONTINUATION, b"\xff", final=False),
        frame(TEXT, "✓".encode()[:2], final=False) + frame(CONTINUATION, b""),
        frame(CLOSE, b"\x03\xe8\xff"),
    ],
    ids=["no utf-8", "cut off", "surrogate", "in a fragment", "cut off at the end", "in a reason"],
)
def test_what_is_not_utf_8_is_refused(data: bytes) -> None:
    assert refusal(data).code is CloseCode.INVALID_UTF8


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!BB", FIN | TEXT, 2) + b"hi",
        frame(TEXT | 0x40, b"hi"),
        frame(TEXT | 0x10, b"hi"),
        frame(0x3, b"hi"),
        frame(0xB, b"hi"),
        frame(PING, b"x" * 126),
        frame(PING, b"x", final=False),
        frame(CONTINUATION, b"hi"),
        frame(TEXT, b"hi", final=False) + frame(TEXT, b"hi"),
        frame(CLOSE, b"\x03"),
        *(
            frame(CLOSE, struct.pack("!H", code))
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ),
    ],
)
def test_what_the_rfc_forbids_is_a_protocol_error(data: bytes) -> None:
    assert refusal(data).code is CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_a_code_that_may_be_sent_is_taken(code: int) -> None:
    payload = struct.pack("!H", code) + "warum ✓".encode()
    assert events(frame(CLOSE, payload)) == [(CLOSE, payload)]
    assert close_code(payload) == code


def test_a_close_frame_need_not_say_why_and_is_the_last_that_is_looked_at() -> None:
    assert events(frame(CLOSE, b"") + b"whatever") == [(CLOSE, b"")]
    assert close_code(b"") is None


def test_what_came_before_a_broken_frame_counts() -> None:
    found = reader().feed(frame(TEXT, b"one") + frame(0x3, b""))
    assert next(found) == (TEXT, "one")
    with pytest.raises(FramingError):
        next(found)


@given(st.binary(max_size=400))
def test_whatever_comes_is_a_message_a_refusal_or_not_all_there_yet(data: bytes) -> None:
    with suppress(FramingError):
        assert all(len(payload) <= len(data) for _, payload in events(data))
