"""When a client comes back, and when it does not."""

from __future__ import annotations

import pytest

from chatd.client.errors import Ended, Refused, SignedOut
from chatd.client.frames import Bye
from chatd.client.pauses import Backoff, asked_for, why_final, why_no_handshake
from chatd.errors import CloseCode

FINAL = {
    CloseCode.PROTOCOL_ERROR,
    CloseCode.UNSUPPORTED_DATA,
    CloseCode.INVALID_UTF8,
    CloseCode.TOO_BIG,
    CloseCode.BAD_FRAMES,
    CloseCode.UNAUTHENTICATED,
    CloseCode.NOT_A_MEMBER,
    CloseCode.UNKNOWN_GROUP,
}


@pytest.mark.parametrize("code", CloseCode)
def test_each_close_code_ends_it_or_does_not(code: CloseCode) -> None:
    final = why_final(code, Bye("why", reconnect=False))
    assert (final is not None) == (code in FINAL)
    assert final is None or (final.code, final.reason) == (code, "why")
    assert isinstance(final, SignedOut) == (code == CloseCode.UNAUTHENTICATED)


def test_without_a_code_it_comes_back() -> None:
    assert why_final(None, None) is None


def test_pauses_grow_up_to_half_a_minute_and_differ() -> None:
    backoff = Backoff()
    pauses = [backoff.next() for _ in range(20)]
    assert pauses[0] <= 0.2
    assert all(15 <= pause <= 30 for pause in pauses[8:])
    assert len(set(pauses)) == 20
    backoff.reset()
    assert backoff.next() <= 0.2
    assert backoff.next(7) >= 7


@pytest.mark.parametrize(
    ("code", "bye", "seconds"),
    [
        (1001, Bye("stopping", reconnect=True, after=3), 3),
        (1001, Bye("stopping", reconnect=True), 0),
        (None, None, 0),
        (4429, Bye("flooding", reconnect=True), 5),
    ],
)
def test_the_server_says_how_long_to_stay_away(
    code: int | None, bye: Bye | None, seconds: float
) -> None:
    assert asked_for(code, bye) == seconds


@pytest.mark.parametrize(
    ("status", "code", "ends"),
    [
        (401, "unauthenticated", SignedOut),
        (403, "forbidden", Refused),
        (404, "unexpected", Refused),
        (421, "misdirected_request", Refused),
        (429, "rate_limited", None),
        (500, "internal", None),
        (503, "unavailable", None),
    ],
)
def test_a_refused_handshake_ends_it_or_does_not(
    status: int, code: str, ends: type[Ended | Refused] | None
) -> None:
    final = why_no_handshake(Refused(code, "why"), status)
    assert type(final) is (ends or type(None))
