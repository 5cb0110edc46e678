from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chatd.errors import BadJson, BadRequest, ChatError, Invalid
from chatd.frames import (
    MAX_SEQ,
    AnyInbound,
    AnyOutbound,
    Auth,
    Bye,
    Cursor,
    ErrorFrame,
    Gap,
    Hello,
    Joined,
    Left,
    MessageFrame,
    Outbound,
    Ping,
    PongFrame,
    Presence,
    Read,
    ReadNotice,
    Ready,
    Receipt,
    Received,
    Resume,
    Send,
    Sent,
    TypingNotice,
    client_id_of,
    decode,
    encode,
    gap_frame,
    message_frame,
    read_frame,
    receipt_frame,
    sent_frame,
    websocket_frame,
)
from chatd.frames import Typing as TypingFrame
from chatd.models import Advance, Message, ReceiptKind
from chatd.openapi import asyncapi_document
from tests.rooms import ANN, BOB, GROUP, PAIR, parse_frames

DOCUMENT = asyncapi_document()
TIME = "2026-01-31T12:00:00.000Z"
AT = 1_769_860_800_000


def validator(kind: type) -> Draft202012Validator:
    """The published schema of a frame."""
    return Draft202012Validator(
        {
            "$ref": f"#/components/schemas/{kind.__name__}",
            "components": DOCUMENT["components"],
        }
    )


# -- in ----------------------------------------------------------------------------------------

INBOUND: list[tuple[str, Any]] = [
    ('{"type":"auth","token":"t"}', Auth("t")),
    ('{"type":"send","to":"b","text":"x"}', Send("x", to="b")),
    ('{"client_id":"c","text":"\\u00e9","group":"g","type":"send"}', Send("é", None, "g", "c")),
    ('{"type":"send","text":"x"}', Send("x")),
    ('{"type":"received","from":"b","seq":0}', Received(0, "b")),
    (f'{{"type":"read","group":"g","seq":{MAX_SEQ}}}', Read(MAX_SEQ, None, "g")),
    ('{"type":"typing","to":"b"}', TypingFrame("b")),
    ('{"type":"resume","epoch":"e","cursors":[]}', Resume("e", [])),
    (
        '{"type":"resume","epoch":"e","cursors":[{"user":"b","seq":1},{"group":"g","seq":2}]}',
        Resume("e", [Cursor(1, "b"), Cursor(2, None, "g")]),
    ),
    (' {"type" : "ping"} ', Ping()),
]


@pytest.mark.parametrize(("text", "frame"), INBOUND)
def test_a_frame_is_read(text: str, frame: Any) -> None:
    assert decode(text) == frame
    assert decode(text.encode()) == frame


@pytest.mark.parametrize(("text", "frame"), INBOUND)
def test_what_is_read_is_what_is_published(text: str, frame: Any) -> None:
    validator(type(frame)).validate(json.loads(text))


def test_every_inbound_frame_is_among_the_examples() -> None:
    assert {type(frame) for _, frame in INBOUND} == set(AnyInbound.__args__)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "{'type':'ping'}",
        '{"type":"ping"} {"type":"ping"}',
        '{"type":"read","seq":NaN}',
        '{"type":"send","text":"\\ud800"}',
        '{"type":"send","text":"\ud800"}',
        b'{"type":"send","text":"\xff"}',
        '\ufeff{"type":"ping"}',
        '{"x":' + "[" * 100_000 + "]" * 100_000 + ',"type":"ping"}',
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_no_json_is_bad_json(data: str | bytes) -> None:
    with pytest.raises(BadJson, match="a frame is one JSON object"):
        decode(data)


@pytest.mark.parametrize(
    "text", ["[]", "null", "5", '"ping"', "{}", '{"type":"nonsense"}', '{"type":5}', "[" * 10_000]
)
def test_what_is_no_frame_is_a_bad_request_that_names_the_frames(text: str) -> None:
    with pytest.raises(BadRequest, match="auth, send, received, read, typing, resume, ping") as got:
        decode(text)
    assert not isinstance(got.value, BadJson)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"type":"auth"}', "token"),
        ('{"type":"send"}', "text"),
        ('{"type":"send","text":""}', "text"),
        ('{"type":"send","text":5}', "text"),
        ('{"type":"send","text":"x","client_id":""}', "client_id"),
        (f'{{"type":"send","text":"x","client_id":"{"c" * 65}"}}', "client_id"),
        ('{"type":"send","text":"x","extra":1}', "extra"),
        ('{"type":"ping","seq":1}', "seq"),
        ('{"type":"read","from":"b"}', "seq"),
        ('{"type":"read","from":"b","seq":-1}', "seq"),
        ('{"type":"read","from":"b","seq":true}', "seq"),
        ('{"type":"read","from":"b","seq":"1"}', "seq"),
        ('{"type":"read","from":"b","seq":1.5}', "seq"),
        (f'{{"type":"read","from":"b","seq":{MAX_SEQ + 1}}}', "seq"),
        (f'{{"type":"read","from":"b","seq":{"9" * 5000}}}', "seq"),
        ('{"type":"read","from":{"$ne":""},"seq":1}', "from"),
        ('{"type":"resume","epoch":"e","cursors":[{"seq":1},{"seq":"1"}]}', "cursors[1].seq"),
        ('{"type":"resume","epoch":"e","cursors":{}}', "cursors"),
    ],
)
def test_a_wrong_field_is_invalid_and_named(text: str, field: str) -> None:
    with pytest.raises(Invalid) as got:
        decode(text)
    (error,) = got.value.errors
    assert error.field == field
    assert error.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMES = st.sampled_from(["type", "text", "to", "group", "client_id", "seq", "from", "cursors"])
KINDS = st.sampled_from([kind.__struct_config__.tag for kind in AnyInbound.__args__])
NEARLY_FRAMES = st.builds(
    lambda kind, fields: json.dumps({**fields, "type": kind}),
    KINDS,
    st.dictionaries(NAMES | st.text(), JSON),
)


@given(st.binary() | st.text() | JSON.map(json.dumps) | NEARLY_FRAMES)
def test_whatever_comes_is_a_frame_or_a_refusal(data: str | bytes) -> None:
    try:
        assert isinstance(decode(data), AnyInbound)
    except ChatError as error:
        encode(ErrorFrame(error.code, error.detail, client_id_of(data)))


@pytest.mark.parametrize(
    ("text", "client_id"),
    [
        ('{"type":"send","text":5,"client_id":"c"}', "c"),
        (f'{{"client_id":"{"c" * 65}"}}', None),
        ('{"client_id":5}', None),
        ('["client_id"]', None),
        ("{", None),
        ("[" * 100_000, None),
    ],
    ids=range(6),
)
def test_a_refused_frames_client_id_is_found_where_it_has_one(
    text: str, client_id: str | None
) -> None:
    assert client_id_of(text) == client_id


# -- out ---------------------------------------------------------------------------------------

OUTBOUND: list[Outbound] = [
    Hello(1, ANN, "c1", "e", 3600, TIME),
    MessageFrame("m1", ANN, 1, 'x\n"\\\u2028👩‍👩‍👧 \0', TIME, to=BOB),
    MessageFrame("m1", ANN, MAX_SEQ, "x", TIME, group="python"),
    Sent("m1", 1, TIME, duplicate=False, to=BOB),
    Sent("m1", 1, TIME, duplicate=True, group="python", client_id="c"),
    Receipt("delivered", BOB, 1, TIME, to=BOB),
    Receipt("read", BOB, 1, TIME, group="python"),
    Gap(1, 2, user=BOB),
    Gap(1, 2, group="python"),
    Ready(),
    Presence([ANN], []),
    TypingNotice(ANN),
    TypingNotice(ANN, group="python"),
    ReadNotice(1, user=BOB),
    ReadNotice(MAX_SEQ, group="python"),
    Joined("python", ANN),
    Left("python", ANN),
    ErrorFrame("invalid", "no"),
    ErrorFrame("rate_limited", "no", client_id="c", retry_after=0.5),
    Bye("enough", reconnect=False),
    Bye("the server is stopping", reconnect=True, after=1),
    PongFrame(),
]


def sent_json(frame: Outbound) -> Any:
    ((opcode, payload),) = parse_frames(encode(frame))
    assert opcode == 0x1
    return json.loads(payload)


@pytest.mark.parametrize("frame", OUTBOUND, ids=lambda frame: type(frame).__name__)
def test_what_is_sent_is_what_is_published(frame: Outbound) -> None:
    value = sent_json(frame)
    assert value["type"] == type(frame).__struct_config__.tag
    assert None not in value.values(), "what is not said is left out"
    validator(type(frame)).validate(value)


def test_every_outbound_frame_is_among_the_examples() -> None:
    assert {type(frame) for frame in OUTBOUND} == set(AnyOutbound.__args__)


def test_a_published_schema_refuses_what_it_should() -> None:
    assert not validator(Ready).is_valid({"type": "pong"})
    assert not validator(Gap).is_valid({"type": "gap", "from_seq": "1", "to_seq": 2})
    assert not validator(Send).is_valid({"type": "send", "to": BOB})
    assert not validator(Send).is_valid({"type": "send", "text": "x", "extra": 1})


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_frame_says_how_long_it_is(length: int) -> None:
    payload = b"x" * length
    frame = websocket_frame(0x2, payload)
    assert parse_frames(frame) == [(0x2, payload)]
    assert len(frame) - length == (2 if length < 126 else 4 if length < 65_536 else 10)


# -- from the models ---------------------------------------------------------------------------


def message(conversation: Any, sender: str) -> Message:
    return Message("m1", conversation, 3, sender, "x", AT, client_id="c")


def test_a_message_names_the_other_or_the_group_and_no_client_id() -> None:
    common = {"type": "message", "id": "m1", "seq": 3, "text": "x", "sent_at": TIME}
    assert sent_json(message_frame(message(PAIR, ANN))) == {**common, "from": ANN, "to": BOB}
    assert sent_json(message_frame(message(PAIR, BOB))) == {**common, "from": BOB, "to": ANN}
    assert sent_json(message_frame(message(GROUP, BOB))) == {
        **common,
        "from": BOB,
        "group": "python",
    }


def test_sent_names_the_target_and_the_senders_client_id() -> None:
    assert sent_json(sent_frame(message(PAIR, BOB), duplicate=False)) == {
        "type": "sent",
        "id": "m1",
        "to": ANN,
        "seq": 3,
        "sent_at": TIME,
        "client_id": "c",
        "duplicate": False,
    }
    assert sent_json(sent_frame(message(GROUP, BOB), duplicate=True))["group"] == "python"


@pytest.mark.parametrize("kind", ReceiptKind)
def test_a_receipt_names_who_has_it(kind: ReceiptKind) -> None:
    senders = frozenset({ANN})
    assert sent_json(receipt_frame(Advance(PAIR, BOB, kind, 1, 3, AT, senders))) == {
        "type": "receipt",
        "kind": kind.value,
        "by": BOB,
        "to": BOB,
        "seq": 3,
        "at": TIME,
    }
    frame = sent_json(receipt_frame(Advance(GROUP, BOB, kind, 1, 3, AT, senders)))
    assert (frame["group"], frame["by"]) == ("python", BOB)
    assert "to" not in frame


def test_a_gap_names_the_conversation_as_its_viewer_does() -> None:
    assert gap_frame(PAIR, ANN, 1, 2) == Gap(1, 2, user=BOB)
    assert gap_frame(PAIR, BOB, 1, 2) == Gap(1, 2, user=ANN)
    assert gap_frame(GROUP, ANN, 1, 2) == Gap(1, 2, group="python")


def test_what_was_read_names_the_conversation_as_its_reader_does() -> None:
    assert sent_json(read_frame(PAIR, ANN, 3)) == {"type": "read", "user": BOB, "seq": 3}
    assert sent_json(read_frame(PAIR, BOB, 3)) == {"type": "read", "user": ANN, "seq": 3}
    assert sent_json(read_frame(GROUP, ANN, 3)) == {"type": "read", "group": "python", "seq": 3}
