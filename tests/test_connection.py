from __future__ import annotations

from typing import Any

import pytest

from chatd.connection import EVERYTHING, ONE_TO_ONE, Connection, Scope, Span, one_group
from chatd.errors import CloseCode
from chatd.models import Conversation, group_conversation
from tests.rooms import BOB, GROUP, PAIR, Lab, Peer, numbered

PING_1, PING_2, PING_3 = b"\0\1", b"\0\2", b"\0\3"


@pytest.fixture
def lab() -> Lab:
    return Lab()


def acknowledge(connection: Connection, seq: int) -> None:
    """The connection's own message was stored: it hears so, and gets no copy."""
    connection.write(numbered(seq))
    connection.deliver(PAIR, seq, b"")


def deliver(connection: Connection, *seqs: int, conversation: Conversation = PAIR) -> None:
    for seq in seqs:
        connection.deliver(conversation, seq, numbered(seq))


# -- one write a turn --------------------------------------------------------------------------


def test_what_is_given_during_one_turn_leaves_in_one_write_at_its_end(lab: Lab) -> None:
    connection, peer = lab.connect()
    for number in (7, 8, 9):
        connection.write(numbered(number))
    assert peer.writes == []
    lab.clock.turn()
    assert len(peer.writes) == 1
    assert peer.take() == [7, 8, 9]


def test_every_turn_has_its_write_and_a_turn_without_news_has_none(lab: Lab) -> None:
    connection, peer = lab.connect()
    _, silent = lab.connect()
    for number in (7, 8):
        connection.write(numbered(number))
        lab.clock.turn()
        lab.clock.turn()
    assert len(peer.writes) == 2
    assert silent.writes == []


def test_what_waits_can_be_handed_over_early(io_loop: Any, lab: Lab) -> None:
    connection, peer = lab.connect()
    connection.write(numbered(7))
    peer.unread = 100
    io_loop.run_sync(connection.drained)
    assert peer.take() == [7]
    assert peer.unread == 0
    lab.clock.turn()
    assert len(peer.writes) == 1


# -- receipts by Pong --------------------------------------------------------------------------


def test_a_ping_goes_behind_the_messages_and_its_pong_confirms_them(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 4, 5)
    lab.clock.turn()
    assert peer.take() == [4, 5, PING_1]
    assert lab.confirmed == []
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 4, 5)]


def test_frames_that_are_no_messages_need_no_ping(lab: Lab) -> None:
    connection, peer = lab.connect()
    connection.write(numbered(7))
    lab.clock.turn()
    assert peer.take() == [7]


def test_one_ping_is_outstanding_and_the_next_covers_what_came_meanwhile(lab: Lab) -> None:
    connection, peer = lab.connect()
    for seq in (1, 2, 3):
        deliver(connection, seq)
        lab.clock.turn()
    assert peer.take() == [1, PING_1, 2, 3]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 1)]
    lab.clock.turn()
    assert peer.take() == [PING_2]
    connection.pong(PING_2)
    assert lab.confirmed == [Span(PAIR, 1, 1), Span(PAIR, 1, 3)]


def test_a_claim_covers_the_unbroken_run_of_each_conversation(lab: Lab) -> None:
    connection, _ = lab.connect()
    deliver(connection, 4, 5)
    deliver(connection, 9, conversation=GROUP)
    lab.clock.turn()
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 4, 5), Span(GROUP, 9, 9)]


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\2", b"\0\1\0", b"hello"])
def test_a_pong_that_answers_no_ping_of_ours_says_nothing(lab: Lab, payload: bytes) -> None:
    connection, _ = lab.connect()
    connection.pong(payload)
    deliver(connection, 1)
    connection.pong(payload)
    lab.clock.turn()
    connection.pong(payload)
    assert lab.confirmed == []


def test_an_old_pong_says_nothing_of_what_was_written_since(lab: Lab) -> None:
    connection, _ = lab.connect()
    deliver(connection, 1)
    lab.clock.turn()
    connection.pong(PING_1)
    deliver(connection, 2)
    lab.clock.turn()
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 1)]


def test_the_same_pong_twice_confirms_once(lab: Lab) -> None:
    connection, _ = lab.connect()
    deliver(connection, 1)
    lab.clock.turn()
    connection.pong(PING_1)
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 1)]


def test_pings_are_numbered_anew_when_the_numbers_run_out(lab: Lab) -> None:
    connection, peer = lab.connect()
    connection._ping_number = 0xFFFF
    deliver(connection, 1)
    lab.clock.turn()
    assert peer.take() == [1, b"\0\0"]
    connection.pong(b"\0\0")
    assert lab.confirmed == [Span(PAIR, 1, 1)]


def test_a_gap_ends_a_run_and_what_was_written_before_it_is_still_claimed(lab: Lab) -> None:
    connection, _ = lab.connect()
    connection.begin(PAIR, 1)
    deliver(connection, 1, 2)
    connection.begin(PAIR, 7)
    deliver(connection, 7, 8)
    lab.clock.turn()
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 2), Span(PAIR, 7, 8)]


def test_a_gap_behind_a_ping_on_its_way_leaves_that_pings_claim_alone(lab: Lab) -> None:
    connection, _ = lab.connect()
    deliver(connection, 1, 2)
    lab.clock.turn()
    connection.begin(PAIR, 7)
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 2)]
    deliver(connection, 7)
    lab.clock.turn()
    connection.pong(PING_2)
    assert lab.confirmed[1:] == [Span(PAIR, 7, 7)]


def test_a_gap_behind_a_run_that_no_ping_has_claimed_yet_gets_a_ping(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 1)
    connection.begin(PAIR, 7)
    lab.clock.turn()
    assert peer.take() == [1, PING_1]


def test_an_explicit_connection_is_pinged_for_its_life_only_and_confirms_nothing(lab: Lab) -> None:
    connection, peer = lab.connect(explicit=True)
    deliver(connection, 1, 2)
    connection.begin(PAIR, 7)
    deliver(connection, 7)
    lab.clock.turn()
    assert peer.take() == [1, 2, 7]
    connection.keep_alive(lab.clock.time() + 20, 20, 20)
    lab.clock.turn()
    assert peer.take() == [PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == []


# -- how often ---------------------------------------------------------------------------------


def test_group_traffic_is_pinged_for_once_an_interval(lab: Lab) -> None:
    connection, peer = lab.connect()
    lab.clock.advance(1)
    deliver(connection, 1, conversation=GROUP)
    lab.clock.turn()
    assert peer.take() == [1, PING_1]
    connection.pong(PING_1)
    for seq in (2, 3):
        deliver(connection, seq, conversation=GROUP)
        lab.clock.advance(0.1)
    assert peer.take() == [2, 3]
    lab.clock.advance(0.2)
    assert peer.take() == [PING_2]
    connection.pong(PING_2)
    assert lab.confirmed == [Span(GROUP, 1, 1), Span(GROUP, 1, 3)]
    lab.clock.advance(10)
    assert peer.take() == []


def test_what_arrives_while_a_ping_is_out_still_waits_for_the_interval(lab: Lab) -> None:
    connection, peer = lab.connect()
    lab.clock.advance(1)
    for seq in (1, 2):
        deliver(connection, seq, conversation=GROUP)
        lab.clock.turn()
    connection.pong(PING_1)
    lab.clock.turn()
    assert peer.take() == [1, PING_1, 2]
    lab.clock.advance(0.25)
    assert peer.take() == [PING_2]


def test_one_timer_serves_every_connection(lab: Lab) -> None:
    lines = [lab.connect() for _ in range(5)]
    for connection, _ in lines:
        deliver(connection, 1, conversation=GROUP)
    lab.clock.turn()
    assert len(lab.clock.timers) == 1
    lab.clock.advance(0.25)
    assert [peer.take() for _, peer in lines] == [[1, PING_1]] * 5


def test_one_to_one_traffic_is_pinged_for_at_once(lab: Lab) -> None:
    connection, peer = lab.connect()
    for seq, ping in ((1, PING_1), (2, PING_2)):
        deliver(connection, seq)
        lab.clock.turn()
        assert peer.take() == [seq, ping]
        connection.pong(ping)


def test_a_one_to_one_message_takes_the_groups_along(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 1, conversation=GROUP)
    lab.clock.turn()
    deliver(connection, 9)
    lab.clock.turn()
    assert peer.take() == [1, 9, PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(GROUP, 1, 1), Span(PAIR, 9, 9)]


# -- holding back while the replay runs --------------------------------------------------------


def test_live_messages_are_held_back_until_the_release(lab: Lab) -> None:
    connection, peer = lab.connect(live=False)
    deliver(connection, 5, 6)
    deliver(connection, 2, conversation=GROUP)
    connection.write(numbered(99))
    lab.clock.turn()
    assert peer.take() == [99]
    assert connection.held_from() == {PAIR: 5, GROUP: 2}
    connection.release()
    assert connection.held_from() == {}
    deliver(connection, 7)
    lab.clock.turn()
    assert peer.take() == [5, 6, 2, 7, PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 5, 7), Span(GROUP, 2, 2)]


def test_what_the_replay_brought_is_not_written_again(lab: Lab) -> None:
    connection, peer = lab.connect(live=False)
    deliver(connection, 5, 6, 7)
    deliver(connection, 2, conversation=GROUP)
    connection.cover(PAIR, 5)
    connection.cover(PAIR, 6)
    connection.release()
    lab.clock.turn()
    assert peer.take() == [7, 2, PING_1]


def test_what_the_replay_brought_is_not_written_again_if_it_comes_after_the_release(
    lab: Lab,
) -> None:
    """The journal may still be telling of a batch that the replay has read from the storage."""
    connection, peer = lab.connect(live=False)
    connection.begin(PAIR, 1)
    for seq in range(1, 7):
        connection.cover(PAIR, seq)
    connection.release()
    deliver(connection, 5, 6, 7)
    deliver(connection, 1, conversation=GROUP)
    lab.clock.turn()
    assert peer.take() == [7, 1, PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 7), Span(GROUP, 1, 1)]


def test_an_answer_to_a_send_is_not_held_back_but_claims_nothing_before_its_turn(lab: Lab) -> None:
    connection, peer = lab.connect(live=False)
    deliver(connection, 5)
    acknowledge(connection, 6)
    lab.clock.turn()
    assert peer.take() == [6]
    connection.release()
    lab.clock.turn()
    assert peer.take() == [5, PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 5, 6)]


def test_an_answer_to_a_send_on_a_live_connection_is_claimed_with_it(lab: Lab) -> None:
    connection, peer = lab.connect()
    acknowledge(connection, 6)
    lab.clock.turn()
    assert peer.take() == [6, PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 6, 6)]


def test_an_answer_to_a_send_that_was_replayed_as_well_takes_no_claim_back(lab: Lab) -> None:
    connection, peer = lab.connect(live=False)
    connection.begin(PAIR, 1)
    for seq in range(1, 7):
        connection.cover(PAIR, seq)
    connection.release()
    acknowledge(connection, 5)
    lab.clock.turn()
    assert peer.take() == [5, PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 6)]


# -- holes -------------------------------------------------------------------------------------


def gap(first: int, last: int) -> dict[str, object]:
    return {"type": "gap", "user": BOB, "from_seq": first, "to_seq": last}


def test_a_hole_is_announced_and_never_claimed(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 1, 2, 5, 6)
    lab.clock.turn()
    assert peer.take() == [1, 2, gap(3, 4), 5, 6, PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 2), Span(PAIR, 5, 6)]


def test_a_hole_before_ones_own_message_is_announced_too(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 1)
    acknowledge(connection, 3)
    lab.clock.turn()
    assert peer.take() == [1, 3, gap(2, 2), PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 1), Span(PAIR, 3, 3)]


def test_a_hole_between_the_replay_and_what_was_held_back_is_announced(lab: Lab) -> None:
    connection, peer = lab.connect(live=False)
    connection.cover(PAIR, 4)
    deliver(connection, 6)
    connection.release()
    lab.clock.turn()
    assert peer.take() == [gap(5, 5), 6, PING_1]


def test_a_hole_is_announced_where_nothing_was_written_yet(lab: Lab) -> None:
    connection, peer = lab.connect()
    connection.expect(PAIR, 4)
    deliver(connection, 6)
    lab.clock.turn()
    assert peer.take() == [gap(4, 5), 6, PING_1]


def test_what_a_connection_has_had_is_not_expected_again(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 4, 5)
    connection.expect(PAIR, 4)
    deliver(connection, 6)
    lab.clock.turn()
    assert peer.take() == [4, 5, 6, PING_1]


def test_what_fills_a_hole_that_was_announced_is_not_written(lab: Lab) -> None:
    """It would come out of order; the client has been told to fetch it."""
    connection, peer = lab.connect()
    deliver(connection, 1, 3, 2)
    lab.clock.turn()
    assert peer.take() == [1, gap(2, 2), 3, PING_1]


def test_an_explicit_connection_hears_of_holes_too(lab: Lab) -> None:
    connection, peer = lab.connect(explicit=True)
    deliver(connection, 1, 3)
    lab.clock.turn()
    assert peer.take() == [1, gap(2, 2), 3]


# -- a peer that does not read -----------------------------------------------------------------


def fill_outbox(connection: Connection, peer: Peer) -> None:
    for seq in range(50):
        deliver(connection, seq)


def fill_held(connection: Connection, peer: Peer) -> None:
    connection._held = []
    fill_outbox(connection, peer)


def fill_stream(connection: Connection, peer: Peer) -> None:
    peer.unread = 100
    connection.write(numbered(0))
    connection.flush()
    peer.take()
    deliver(connection, 1)
    connection.flush()


@pytest.mark.parametrize("fill", [fill_outbox, fill_held, fill_stream])
def test_a_slow_consumer_is_told_and_cut_off_and_its_outbox_dropped(fill: Any) -> None:
    lab = Lab(outbox_limit=100)
    connection, peer = lab.connect()
    fill(connection, peer)
    assert lab.slow == [connection]
    assert peer.take() == [{"type": "bye", "reason": "slow consumer", "reconnect": True}]
    assert peer.closed == (CloseCode.SLOW_CONSUMER, "slow consumer")
    assert connection.waiting == peer.unread, "nothing is kept for it"
    lab.clock.turn()
    assert peer.take() == []


def test_up_to_the_limit_nobody_is_cut_off() -> None:
    lab = Lab(outbox_limit=100)
    connection, peer = lab.connect()
    peer.unread = 100 - 2 * len(numbered(1))
    deliver(connection, 1, 2)
    assert connection.waiting == 100
    lab.clock.turn()
    assert peer.closed is None
    assert peer.take() == [1, 2, PING_1]


def test_what_the_peer_has_read_counts_no_more() -> None:
    lab = Lab(outbox_limit=10)
    connection, peer = lab.connect()
    for number in range(10):
        connection.write(numbered(number))
        lab.clock.turn()
        assert connection.waiting == 0
    assert peer.take() == list(range(10))


def test_a_limit_of_0_is_none(lab: Lab) -> None:
    connection, peer = lab.connect()
    peer.unread = 1 << 40
    deliver(connection, *range(1000))
    assert peer.closed is None


def test_a_replay_hears_early_that_the_peer_is_slow() -> None:
    lab = Lab(outbox_limit=100)
    connection, peer = lab.connect()
    peer.unread = 25
    assert not connection.pressed
    connection.write(numbered(1))
    assert connection.pressed


# -- keeping alive -----------------------------------------------------------------------------


def test_a_silent_peer_is_pinged_and_lives_while_it_answers(lab: Lab) -> None:
    connection, peer = lab.connect()
    for ping in (PING_1, PING_2):
        lab.clock.advance(19)
        connection.keep_alive(lab.clock.time(), 20, 10)
        lab.clock.turn()
        assert peer.take() == []
        lab.clock.advance(1)
        connection.keep_alive(lab.clock.time(), 20, 10)
        lab.clock.turn()
        assert peer.take() == [ping]
        connection.pong(ping)
    assert peer.closed is None


def test_a_peer_that_lets_a_ping_go_unanswered_is_ended(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 1)
    lab.clock.turn()
    lab.clock.advance(9)
    connection.keep_alive(lab.clock.time(), 20, 10)
    assert peer.closed is None
    lab.clock.advance(1)
    connection.keep_alive(lab.clock.time(), 20, 10)
    assert peer.closed == (CloseCode.TIMEOUT, "no Pong in time")
    assert peer.dropped, "nobody waits for its answer to the closing handshake"
    assert peer.take()[-1] == {"type": "bye", "reason": "no Pong in time", "reconnect": True}


def test_a_peer_is_not_blamed_for_a_pong_that_is_not_being_read(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 1)
    lab.clock.turn()
    peer.heard = False
    for _ in range(3):
        lab.clock.advance(10)
        connection.keep_alive(lab.clock.time(), 20, 10)
    peer.heard = True
    lab.clock.advance(9)
    connection.keep_alive(lab.clock.time(), 20, 10)
    assert peer.closed is None
    lab.clock.advance(1)
    connection.keep_alive(lab.clock.time(), 20, 10)
    assert peer.closed == (CloseCode.TIMEOUT, "no Pong in time")


def test_a_busy_peer_needs_no_extra_ping(lab: Lab) -> None:
    connection, peer = lab.connect()
    lab.clock.advance(19)
    deliver(connection, 1)
    lab.clock.turn()
    connection.pong(PING_1)
    lab.clock.advance(19)
    connection.keep_alive(lab.clock.time(), 20, 10)
    lab.clock.turn()
    assert peer.take() == [1, PING_1]


def test_a_ping_for_life_covers_what_group_traffic_had_not_been_pinged_for(lab: Lab) -> None:
    connection, peer = lab.connect()
    deliver(connection, 1, conversation=GROUP)
    connection.keep_alive(lab.clock.time() + 20, 20, 10)
    lab.clock.turn()
    assert peer.take() == [1, PING_1]
    connection.pong(PING_1)
    assert lab.confirmed == [Span(GROUP, 1, 1)]


# -- the end -----------------------------------------------------------------------------------


def test_what_waits_leaves_before_the_bye(lab: Lab) -> None:
    connection, peer = lab.connect()
    connection.write(numbered(1))
    connection.end(CloseCode.GOING_AWAY, "the server is stopping", reconnect=True, after=1)
    assert peer.take() == [
        1,
        {"type": "bye", "reason": "the server is stopping", "reconnect": True, "after": 1.0},
    ]
    assert peer.closed == (CloseCode.GOING_AWAY, "the server is stopping")
    assert not peer.dropped, "the peer may answer"
    assert lab.ended == [connection], "yet nobody need wait for that"


@pytest.mark.parametrize("live", [True, False])
def test_nothing_follows_the_end(lab: Lab, live: bool) -> None:
    connection, peer = lab.connect(live=live)
    deliver(connection, 1)
    connection.end(CloseCode.NORMAL, "enough", reconnect=False)
    peer.take()
    connection.write(numbered(2))
    deliver(connection, 3)
    acknowledge(connection, 4)
    connection.release()
    connection.flush()
    connection.keep_alive(lab.clock.time() + 20, 20, 10)
    connection.keep_alive(lab.clock.time() + 60, 20, 10)
    connection.end(CloseCode.TIMEOUT, "again", reconnect=False)
    lab.clock.turn()
    lab.clock.advance(1)
    assert peer.take() == []
    assert peer.closed == (CloseCode.NORMAL, "enough")
    assert not peer.dropped
    assert lab.ended == [connection], "once"


def test_a_pong_that_comes_after_the_end_is_still_a_receipt(lab: Lab) -> None:
    connection, _ = lab.connect()
    deliver(connection, 1)
    lab.clock.turn()
    connection.end(CloseCode.NORMAL, "enough", reconnect=False)
    connection.pong(PING_1)
    assert lab.confirmed == [Span(PAIR, 1, 1)]


def test_ending_one_connection_in_a_turn_leaves_the_others_alone(lab: Lab) -> None:
    (first, _), (second, peer) = lab.connect(), lab.connect(BOB)
    deliver(first, 1)
    deliver(second, 2)
    first.end(CloseCode.NORMAL, "enough", reconnect=False)
    lab.clock.turn()
    assert peer.take() == [2, PING_1]


# -- what a connection carries -----------------------------------------------------------------

OTHER_GROUP = group_conversation("other")


@pytest.mark.parametrize(
    ("scope", "carried"),
    [
        (EVERYTHING, {PAIR, GROUP, OTHER_GROUP}),
        (ONE_TO_ONE, {PAIR}),
        (one_group("python"), {GROUP}),
    ],
)
def test_a_scope_covers(scope: Scope, carried: set[Conversation]) -> None:
    assert {c for c in (PAIR, GROUP, OTHER_GROUP) if scope.covers(c)} == carried
