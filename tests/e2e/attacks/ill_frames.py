"""What clients may send over a WebSocket, well made or not: as JSON, and as bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, Final

import schemathesis
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from websockets.frames import Frame, Opcode

from tests.chat import Json
from tests.e2e.attacks.bare_socket import Site
from tests.e2e.attacks.fuzzing import json_values, texts
from tests.test_openapi import AsyncApi

ADDRESSES: Final = ("/v1/ws", "/chat/user", "/group/python/connect")
QUERIES: Final = ("", "replay=none", "replay=resume", "receipts=explicit")
KNOWN: Final[dict[str, list[Any]]] = {
    "to": ["bob@example.org", "nobody@example.org"],
    "from": ["bob@example.org", "ann@example.org"],
    "user": ["bob@example.org"],
    "group": ["python", "other", "no-such-group"],
    "seq": [0, 1, 2, 3],
}
"""What leads somewhere, by the field."""

# -- from the document -----------------------------------------------------------------------


def documented_frames(api: AsyncApi, mode: GenerationMode) -> SearchStrategy[Any]:
    """JSON made to fit, or not to fit, one of the schemas of what clients may send.

    What makes values from schemas wants OpenAPI: each frame is the body of a request in it.
    """
    requests = {
        f"/{name}": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": schema}},
                },
                "responses": {"200": {"description": "Taken."}},
            }
        }
        for name, schema in api.messages("receive").items()
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "frames", "version": "1"},
        "paths": requests,
        "components": {"schemas": api.document["components"]["schemas"]},
    }
    cases = schemathesis.openapi.from_dict(document).as_strategy(mode)
    return cases.map(lambda case: case.body)


@st.composite
def led_somewhere(draw: st.DrawFn, frames: SearchStrategy[Any], known: dict[str, list[Any]]) -> Any:
    """Frames, half of them with known values in their fields, and with one target."""
    frame = draw(frames)
    if not isinstance(frame, dict) or draw(st.booleans()):
        return frame
    surplus = draw(st.sampled_from(["group", "to"])) if {"group", "to"} <= set(frame) else None
    return {
        name: draw(st.sampled_from(known[name])) if name in known else value
        for name, value in frame.items()
        if name != surplus
    }


@st.composite
def spoiled(draw: st.DrawFn, frames: SearchStrategy[Any]) -> Any:
    """Frames with a field dropped, renamed, of another type, wrapped, or too much."""
    frame = draw(frames)
    if not isinstance(frame, dict) or not frame:
        return frame
    name = draw(st.sampled_from(sorted(frame)))
    value = frame[name]
    others: list[Json] = [
        {},
        {draw(texts): value},
        {name: draw(json_values)},
        {name: [value]},
        {name: {name: value}},
        {name: value, draw(texts): draw(json_values)},
    ]
    rest = {key: frame[key] for key in frame if key != name}
    return rest | draw(st.sampled_from(others))


def payload(value: object) -> bytes:
    """A value as JSON; what was made to be no JSON comes as bytes."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def text(characters: str) -> bytes:
    """Lone surrogates leave as what is no UTF-8."""
    return characters.encode(errors="surrogatepass")


sends: Final = st.builds(
    lambda target, rest: {"type": "send", **target, **rest},
    st.sampled_from([{"to": "bob@example.org"}, {"group": "python"}, {}]),
    st.fixed_dictionaries({"text": texts}, optional={"client_id": texts}),
)
nested: Final = st.builds(
    lambda start, depth: start + b"[" * depth,
    st.sampled_from([b"", b'{"type":"send","text":', b'{"text":']),
    st.integers(1, 32_000),
)


def payloads(site: Site) -> SearchStrategy[bytes]:
    """What a client may send as text: three times in four JSON that has to do with frames."""
    known: dict[str, list[Any]] = {**KNOWN, "token": [site.ann, site.bob], "epoch": [site.epoch]}
    fitting = led_somewhere(documented_frames(site.asyncapi, GenerationMode.POSITIVE), known)
    unfit = led_somewhere(documented_frames(site.asyncapi, GenerationMode.NEGATIVE), known)
    return st.one_of(
        fitting.map(payload),
        sends.map(payload),
        (json_values | spoiled(fitting) | unfit).map(payload),
        texts.map(text) | nested,
    )


def addresses() -> SearchStrategy[str]:
    return st.builds(
        lambda path, query: f"{path}?{query}", st.sampled_from(ADDRESSES), st.sampled_from(QUERIES)
    )


# -- from bytes ------------------------------------------------------------------------------


@st.composite
def whole(draw: st.DrawFn, site: Site) -> bytes:
    """One frame, as a client's library makes it."""
    seldom = [Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG]
    opcode = draw(st.sampled_from([Opcode.TEXT] * 9 + seldom))
    contents = {Opcode.TEXT: payloads(site), Opcode.CLOSE: closings}
    content = draw(contents.get(opcode, st.binary(max_size=125)))
    return Frame(opcode, content).serialize(mask=True)


@st.composite
def fragmented(draw: st.DrawFn, site: Site) -> bytes:
    """A text in fragments that may end within a character, with Pongs in between."""
    content = draw(payloads(site))
    places = sorted(draw(st.lists(st.integers(0, len(content)), min_size=1, max_size=4)))
    data = bytearray()
    for start, end in pairwise([0, *places, len(content)]):
        frame = Frame(Opcode.CONT if data else Opcode.TEXT, content[start:end], fin=False)
        data += frame.serialize(mask=True)
        data += draw(st.sampled_from([b"", Frame(Opcode.PONG, b"").serialize(mask=True)]))
    return bytes(data + Frame(Opcode.CONT, b"").serialize(mask=True))


@st.composite
def ill(draw: st.DrawFn) -> bytes:
    """A head that may say anything (RFC 6455 section 5.2), and what need not fit to it."""
    size = draw(sizes)
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + size.to_bytes(2, "big")
        if size < 2**16
        else b"\x7f" + size.to_bytes(8, "big")
    )
    masked = draw(st.sampled_from([0x80, 0x80, 0]))
    head = bytes([draw(st.integers(0, 255)), masked | length[0]]) + length[1:]
    return head + draw(st.binary(max_size=150))


@st.composite
def flipped(draw: st.DrawFn, site: Site) -> bytes:
    """A frame with one thing wrong in its head: a reserved bit, its end, its opcode, no mask."""
    first, second, *rest = draw(whole(site))
    wrong = draw(st.sampled_from([0x10, 0x20, 0x40, 0x80, 0x07, None]))
    if wrong is None:
        return bytes([first, second ^ 0x80, *rest])
    return bytes([first ^ wrong, second, *rest])


sizes: Final = st.integers(0, 300) | st.sampled_from(
    [125, 126, 127, 2**15, 2**15 + 1, 2**16 - 1, 2**16, 2**31, 2**63 - 1, 2**63, 2**64 - 1]
)
closings: Final = st.builds(
    lambda code, reason: code.to_bytes(2, "big") + reason,
    st.integers(0, 5_000),
    st.binary(max_size=123),
)


@st.composite
def streams(draw: st.DrawFn, site: Site) -> bytes:
    """Frames, then perhaps what is none, at times cut off."""
    parts = draw(st.lists(whole(site) | fragmented(site), max_size=4))
    nothing = st.just(b"")
    parts.append(draw(draw(st.sampled_from([nothing, flipped(site), flipped(site), ill()]))))
    parts.append(draw(draw(st.sampled_from([nothing, nothing, nothing, st.binary(max_size=30)]))))
    cut = draw(st.sampled_from([0, 0, 0, 1, 2, 5, 20]))
    data = b"".join(parts)
    return data[: len(data) - cut]
