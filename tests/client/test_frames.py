"""The client's frames are the server's, to the field."""

from __future__ import annotations

import msgspec
import pytest

from chatd import frames as server
from chatd.client import frames
from chatd.client.events import (
    Conversation,
    Cursor,
    Cursors,
    Frame,
    Gap,
    Joined,
    Left,
    Presence,
    Read,
    Receipt,
    Sent,
    Typing,
)
from chatd.frames import Outbound

TIME = "2026-01-31T12:00:00.000Z"
ANN, BOB = "ann@example.org", "bob@example.org"

SAMPLES = (
    (server.Hello(1, ANN, "c1", "e", 60, TIME), frames.Hello),
    (server.MessageFrame("i", ANN, 1, "text", TIME, to=BOB), frames.MessageFrame),
    (server.Sent("i", 1, TIME, False, group="club", client_id="c"), Sent),
    (server.Receipt("read", BOB, 1, TIME, to=BOB), Receipt),
    (server.Gap(1, 2, user=BOB), Gap),
    (server.Ready(), frames.Ready),
    (server.Presence([ANN], []), Presence),
    (server.TypingNotice(ANN), Typing),
    (server.ReadNotice(1, group="club"), Read),
    (server.Joined("club", ANN), Joined),
    (server.Left("club", ANN), Left),
    (server.ErrorFrame("invalid", "why", "c", 1.5), frames.ErrorFrame),
    (server.Bye("why", True, 1), frames.Bye),
    (server.PongFrame(), frames.Pong),
)


def test_there_is_a_sample_of_everything_the_server_says() -> None:
    assert {type(one) for one, _ in SAMPLES} == set(server.AnyOutbound.__args__)


@pytest.mark.parametrize(("said", "kind"), SAMPLES, ids=lambda one: getattr(one, "__name__", ""))
def test_what_the_server_says_is_understood(said: Outbound, kind: type[Frame]) -> None:
    encoded = msgspec.json.encode(said)
    frame = frames.decode(encoded)
    assert type(frame) is kind
    told = msgspec.json.decode(encoded.replace(b".000Z", b"Z"))
    heard = msgspec.json.decode(msgspec.json.encode(frame))
    assert told.keys() - heard.keys() <= {"version", "connection_id", "server_time"}
    assert {name: heard[name] for name in told.keys() & heard.keys()} == {
        name: told[name] for name in told.keys() & heard.keys()
    }


@pytest.mark.parametrize(
    "frame",
    [
        frames.send("text", to=BOB, group=None, client_id="c1"),
        frames.send("text", to=None, group="club", client_id="c1"),
        frames.received(Conversation(user=BOB), 7),
        frames.read(Conversation(group="club"), 7),
        frames.typing(to=BOB, group=None),
        frames.auth("token"),
        frames.ping(),
        frames.resume(Cursors("e", (Cursor(1, user=BOB), Cursor(2, group="club")))),
    ],
)
def test_what_the_client_says_is_understood(frame: bytes) -> None:
    said = msgspec.json.decode(frame)
    known = msgspec.to_builtins(server.decode(frame))
    assert {name: value for name, value in known.items() if value is not None}.keys() >= said.keys()


def test_a_resume_frame_names_the_newest_that_it_has_room_for() -> None:
    cursors = tuple(Cursor(seq, user=f"user{seq}@example.org") for seq in range(2000))
    frame = frames.resume(Cursors("e", cursors))
    assert frames.FRAME_BYTES - 100 < len(frame) <= frames.FRAME_BYTES
    named = msgspec.json.decode(frame)["cursors"]
    assert [one["seq"] for one in named] == list(range(2000 - len(named), 2000))


def test_what_a_newer_server_says_is_passed_over() -> None:
    assert frames.decode('{"type":"reaction","emoji":"+1"}') is None
    known = frames.decode('{"type":"read","user":"ann@example.org","seq":1,"device":"phone"}')
    assert known == Read(1, user=ANN)


@pytest.mark.parametrize("data", ['{"type":"read"}', "[]", "no JSON", '{"seq":1}'])
def test_what_is_no_frame_is_told(data: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        frames.decode(data)


def test_a_message_is_seen_from_either_side() -> None:
    frame = frames.decode(
        f'{{"type":"message","id":"i","from":"{ANN}","to":"{BOB}","seq":1,"text":"x","sent_at":"{TIME}"}}'
    )
    assert isinstance(frame, frames.MessageFrame)
    mine, theirs = frame.seen_by(ANN), frame.seen_by(BOB)
    assert (mine.conversation, mine.own) == (Conversation(user=BOB), True)
    assert (theirs.conversation, theirs.own) == (Conversation(user=ANN), False)
