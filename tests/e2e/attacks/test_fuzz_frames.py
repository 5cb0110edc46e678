"""Any frame: it is answered as documented, or the socket is closed with a documented code.

One fuzzer makes frames from the schemas of ``/asyncapi.json``, such as fit them and such as
don't, and spoils them; another one sends bytes that may or may not be WebSocket framing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from chatd.errors import CloseCode
from tests.counts import Report, Scale
from tests.e2e.attacks.bare_socket import PING, PING_FRAME, Client, Site, text_frame
from tests.e2e.attacks.fuzzing import fuzz
from tests.e2e.attacks.ill_frames import addresses, payloads, streams
from tests.e2e.attacks.well import assert_well
from tests.e2e.server import Server

# An example that failed is to be shown, however large it is.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

CODES: Final[frozenset[int]] = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_UTF8,
        CloseCode.TOO_BIG,
        CloseCode.BAD_FRAMES,
        CloseCode.UNAUTHENTICATED,
    }
)
"""With which a server may close because of what a client has sent."""

MOST_BYTES: Final = 32_768
"""Of a message, as ``limits.frame_bytes`` has it."""

MOST_GROWTH: Final = 32 * 2**20
"""Bytes that a server may keep of all this."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("frames"), unlimited=True)
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def site(server: Server) -> Site:
    return Site(server.url)


@pytest.fixture
def bob(site: Site) -> Iterator[Client]:
    """Somebody who is on line all the time, and is only sent what is documented."""
    with Client(site, "/v1/ws", site.bob) as client:
        yield client
        client.settle()
        assert client.is_open, client.close_code


@pytest.mark.parametrize("who", ["ann", "nobody"])
def test_every_frame_is_answered_or_closes_the_socket(
    server: Server,
    site: Site,
    bob: Client,
    chance: Random,
    scale: Scale,
    report: Report,
    who: str,
) -> None:
    """Every burst of frames is followed by a ping, and the ping answered, on whichever socket.

    Seen to fail with ``except MemoryError`` for ``except RecursionError`` in `frames.decode`.
    """
    token = site.ann if who == "ann" else None
    before = server.resident_bytes()
    heard: Counter[str] = Counter()

    @fuzz(chance, scale(80, 3_000), shrink=False)
    @given(
        addresses(),
        st.lists(st.lists(payloads(site), min_size=1, max_size=4), min_size=1, max_size=5),
    )
    def run(address: str, bursts: list[list[bytes]]) -> None:
        waiting = deque(bursts)
        while waiting:
            with Client(site, address, token) as client:
                while waiting and client.is_open:
                    client.send(b"".join(map(text_frame, waiting.popleft())))
                    client.settle()
                client.finish()
            heard.update(client.heard(CODES))
        bob.catch_up()

    run()
    _assert_well(server, before)
    report(", ".join(f"{count} × {what}" for what, count in sorted(heard.items())))


def _assert_well(server: Server, resident_before: int) -> None:
    assert_well(server)
    grown = server.resident_bytes() - resident_before
    assert grown < MOST_GROWTH, grown


class Verdict(NamedTuple):
    """What another implementation of RFC 6455 makes of bytes, and of a ping behind them."""

    is_heard: bool
    """Whether these are whole frames and whole messages, so that the ping is heard as one."""
    ends: bool
    """Whether they break the framing, or end with a close frame."""
    codes: frozenset[int]
    """With which the server may close."""


def judged(data: bytes) -> Verdict:
    judge = ServerProtocol(state=State.OPEN, max_size=MOST_BYTES)
    judge.receive_data(data + PING)
    heard = judge.events_received()
    has_binary = any(isinstance(one, Frame) and one.opcode is Opcode.BINARY for one in heard)
    codes = CODES if has_binary else CODES - {CloseCode.UNSUPPORTED_DATA}
    if judge.close_rcvd is not None:
        # It is echoed.
        codes |= {judge.close_rcvd.code}
    return Verdict(
        is_heard=bool(heard) and heard[-1] == PING_FRAME and judge.state is State.OPEN,
        ends=judge.parser_exc is not None or judge.close_rcvd is not None,
        codes=codes,
    )


@pytest.mark.parametrize("who", ["ann", "nobody"])
def test_what_is_no_websocket_framing_closes_the_socket(
    server: Server,
    site: Site,
    bob: Client,
    chance: Random,
    scale: Scale,
    report: Report,
    who: str,
) -> None:
    """What another implementation refuses is refused; what it takes is answered.

    Seen to fail with ``if opcode not in _KNOWN`` in `FrameReader._check`: reserved bits pass.
    """
    token = site.ann if who == "ann" else None
    before = server.resident_bytes()
    heard: Counter[str] = Counter()

    @fuzz(chance, scale(80, 3_000), shrink=False)
    @given(addresses(), streams(site))
    def run(address: str, data: bytes) -> None:
        verdict = judged(data)
        with Client(site, address, token) as client:
            if verdict.is_heard:
                client.send(data)
                client.settle()
            else:
                client.send(data + PING)
            if verdict.ends:
                client.wait_closed()
            client.finish()
        heard.update(client.heard(verdict.codes))
        bob.catch_up()

    run()
    _assert_well(server, before)
    report(", ".join(f"{count} × {what}" for what, count in sorted(heard.items())))
