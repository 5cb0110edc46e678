"""What the client's models make of what they are given: messages, summaries, ticks, rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.web.modules import ANN, BOB, CAT, Modules, few, message

pytestmark = pytest.mark.browser

# -- timeline ----------------------------------------------------------------------------------

Step = tuple[str, int, int]

RUN: Final = """
const items = (from, to) => {
  const all = [];
  for (let seq = from; seq <= to; seq += 1) all.push({ seq });
  return all;
};
return given.map((steps) => {
  const one = new timeline.Timeline();
  return steps.map(([what, from, to]) => {
    const taken = {
      append: () => one.append(items(from, to)),
      prepend: () => one.prepend(items(from, to), from > 1),
      replace: () => one.replace(items(from, to)),
      know: () => one.know(to),
    }[what]();
    return {
      seqs: one.messages.map((message) => message.seq),
      first: one.first, last: one.last, lastSeq: one.lastSeq,
      hasOlder: one.hasOlder, hasNewer: one.hasNewer, taken,
      between: one.between(from, to).map((message) => message.seq),
      at: [one.at(from)?.seq ?? null, one.at(to)?.seq ?? null],
    };
  });
});
"""

steps = st.lists(
    st.builds(
        lambda what, one, other: (what, min(one, other), max(one, other)),
        st.sampled_from(("append", "append", "prepend", "replace", "know")),
        st.integers(1, 12),
        st.integers(1, 12),
    ),
    max_size=12,
)


@few
@given(st.lists(steps, min_size=20, max_size=40))
def test_a_timeline_never_has_a_hole_whatever_comes_in_whatever_order(
    modules: Modules, runs: list[list[Step]]
) -> None:
    for run, states in zip(runs, modules.run(RUN, runs), strict=True):
        told = 0
        for (what, first, last), state in zip(run, states, strict=True):
            # What comes in front of the window is never news.
            told = told if what == "prepend" else max(told, last)
            seqs = state["seqs"]
            assert seqs == list(range(seqs[0], seqs[-1] + 1)) if seqs else True
            assert state["lastSeq"] == told
            assert state["hasNewer"] == (told > (seqs[-1] if seqs else 0))
            assert state["between"] == [seq for seq in seqs if first <= seq <= last]
            assert state["at"] == [seq if seq in seqs else None for seq in (first, last)]
            if seqs:
                assert (state["first"], state["last"]) == (seqs[0], seqs[-1])
                assert state["hasOlder"] == (seqs[0] > 1)
            else:
                assert not state["hasOlder"]


def test_a_timeline_takes_what_continues_it_and_only_knows_of_the_rest(modules: Modules) -> None:
    after = modules.run(
        RUN,
        [
            [("replace", 5, 9), ("append", 8, 11), ("append", 13, 14), ("append", 12, 14)],
            [("replace", 5, 9), ("prepend", 1, 3), ("prepend", 3, 6), ("prepend", 1, 2)],
            [("append", 1, 1), ("append", 2, 2)],
            [("append", 4, 4), ("replace", 1, 4)],
        ],
    )
    ends = [[(one["first"], one["last"], one["hasNewer"]) for one in run] for run in after]
    assert ends == [
        [(5, 9, False), (5, 11, False), (5, 11, True), (5, 14, False)],
        [(5, 9, False), (5, 9, False), (3, 9, False), (1, 9, False)],
        [(1, 1, False), (1, 2, False)],
        # The first message that is heard of need not be the first there is.
        [(5, 0, True), (1, 4, False)],
    ]
    assert [one["taken"] for one in after[0][1:]] == [True, False, True]


def test_a_timeline_has_no_older_messages_where_the_server_says_so(modules: Modules) -> None:
    assert modules.run(
        """
        const one = new timeline.Timeline();
        one.replace([{ seq: 5 }]);
        one.prepend([{ seq: 4 }], false);
        const atEnd = one.hasOlder;
        one.replace([{ seq: 5 }]);
        return [atEnd, one.hasOlder];
        """
    ) == [False, True]


def test_a_receipt_moves_a_mark_forward_only(modules: Modules) -> None:
    assert modules.run(
        """
        const one = new timeline.Timeline();
        one.mark({ kind: "read", seq: 4, at: "then" });
        one.mark({ kind: "read", seq: 3, at: "later" });
        one.mark({ kind: "delivered", seq: 9, at: "now" });
        return one.marks;
        """
    ) == {"read": {"seq": 4, "at": "then"}, "delivered": {"seq": 9, "at": "now"}}


# -- summaries ---------------------------------------------------------------------------------


def line(seq: int, read: int = 0, unread: int | None = None, user: str = BOB) -> dict[str, object]:
    """A line of the server's list, of a conversation in which all is the other's."""
    unread = seq - read if unread is None else unread
    last = {**message(seq), "from": user}
    return {"user": user, "last_message": last, "last_seq": seq, "read_seq": read, "unread": unread}


TOLD: Final = """
const one = new summaries.Summaries("ann@example.org");
const told = given.map(([what, ...rest]) => one[what](...rest) ?? null);
const state = ({ lastSeq, readSeq, unread }) => ({ lastSeq, readSeq, unread });
const list = Object.fromEntries(one.list().map((summary) => [summary.key, state(summary)]));
return { told, list, order: one.list().map((summary) => summary.key), unread: one.unread };
"""

PAIR: Final = f"user:{BOB}"


def summed(modules: Modules, *calls: Sequence[object]) -> dict[str, Any]:
    """What calls of a new list's methods return, and how it stands behind them."""
    return dict(modules.run(TOLD, calls))


def test_what_others_write_is_unread_and_what_one_writes_is_not(modules: Modules) -> None:
    calls = [("written", message(1)), ("written", message(2, ANN)), ("written", message(3))]
    after = summed(modules, *calls, ("written", message(3)))
    assert after["told"] == [True, True, True, False], "whether each was news"
    assert after["list"] == {PAIR: {"lastSeq": 3, "readSeq": 0, "unread": 2}}
    assert after["unread"] == 2


def test_a_live_message_that_overtakes_the_list_is_kept_and_counted_once(modules: Modules) -> None:
    before = [("load", [line(3, 3)]), ("asked",), ("written", message(4))]
    for answer in (line(3, 3), line(4, 3)):
        after = summed(modules, *before, ("load", [answer]))
        assert after["list"] == {PAIR: {"lastSeq": 4, "readSeq": 3, "unread": 1}}
    first = summed(modules, ("asked",), ("written", message(4)), ("load", [line(3, 3)]))
    assert first["list"] == {PAIR: {"lastSeq": 4, "readSeq": 3, "unread": 1}}


def test_the_first_message_of_a_conversation_that_overtakes_the_list_is_kept(
    modules: Modules,
) -> None:
    first = message(9, CAT, to=ANN) | {"seq": 1}
    calls = [("load", [line(3, 3)]), ("asked",), ("written", first), ("load", [line(3, 3)])]
    assert summed(modules, *calls)["order"] == [f"user:{CAT}", PAIR]


def test_what_the_list_no_longer_holds_is_gone(modules: Modules) -> None:
    calls = [("load", [line(3, 3), line(2, 2, user=CAT)]), ("asked",), ("load", [line(3, 3)])]
    assert summed(modules, *calls)["order"] == [PAIR]


def test_a_list_that_has_not_heard_of_what_was_read_does_not_bring_it_back(
    modules: Modules,
) -> None:
    calls = [("load", [line(5, 3)]), ("read", PAIR, 5, 2), ("asked",), ("load", [line(5, 3)])]
    assert summed(modules, *calls)["list"] == {PAIR: {"lastSeq": 5, "readSeq": 5, "unread": 0}}


def test_a_list_that_has_not_heard_of_what_was_read_still_brings_what_is_new(
    modules: Modules,
) -> None:
    calls = [("load", [line(5, 3)]), ("read", PAIR, 5, 2), ("asked",), ("load", [line(7, 3)])]
    after = summed(modules, *calls)["list"][PAIR]
    assert (after["lastSeq"], after["readSeq"]) == (7, 5)
    assert after["unread"] >= 2


def test_what_another_device_read_is_read_here_where_the_list_is_overtaken(
    modules: Modules,
) -> None:
    calls = [("load", [line(5)]), ("asked",), ("written", message(6)), ("load", [line(5, 5)])]
    assert summed(modules, *calls)["list"] == {PAIR: {"lastSeq": 6, "readSeq": 5, "unread": 1}}


def test_reading_goes_forward_only_and_counts_what_it_covers(modules: Modules) -> None:
    before = ("load", [line(9, 2, 5)])
    for calls, told, readSeq, unread in (  # noqa: N806
        ([("read", PAIR, 4, 2)], [False], 4, 3),
        ([("read", PAIR, 4, 2), ("read", PAIR, 3, 1)], [False, False], 4, 3),
        ([("read", PAIR, 9, 1)], [False], 9, 0),
        ([("read", PAIR, 9)], [False], 9, 0),
        # How many of one's own lie in between is not known: the server has to be asked.
        ([("read", PAIR, 4)], [True], 4, 5),
        ([("read", "user:nobody@example.org", 4)], [False], 2, 5),
    ):
        after = summed(modules, before, *calls)
        assert after["told"][1:] == told
        assert after["list"] == {PAIR: {"lastSeq": 9, "readSeq": readSeq, "unread": unread}}


def test_conversations_stand_newest_first_however_they_came_in(modules: Modules) -> None:
    others = [f"user{number}@example.org" for number in range(5)]
    listed = [line(9 - number, user=user) for number, user in enumerate(others)]
    keys = [f"user:{user}" for user in others]
    assert summed(modules, ("load", listed))["order"] == keys
    later = {**message(20), "from": others[3]}
    after = summed(modules, ("load", listed), ("written", later))["order"]
    assert after == [keys[3], *keys[:3], keys[4]]


def test_a_group_without_a_message_stays_where_the_server_put_it(modules: Modules) -> None:
    empty = {"group": "new", "last_message": None, "last_seq": 0, "read_seq": 0, "unread": 0}
    listed = [line(9), empty, line(5, user=CAT)]
    assert summed(modules, ("load", listed))["order"] == [PAIR, "group:new", f"user:{CAT}"]
    first = summed(modules, ("load", [empty, line(9)]))["order"]
    assert first == ["group:new", PAIR]


@few
@given(st.lists(st.lists(st.sampled_from(["bob", "ann", "load", "read"])), min_size=20))
def test_the_unread_are_counted_as_the_server_counts_them_where_nothing_overtakes(
    modules: Modules, runs: list[list[str]]
) -> None:
    calls: list[list[Sequence[object]]] = []
    counted: list[int] = []
    for run in runs:
        made: list[Sequence[object]] = [("load", [])]
        authors: list[str] = []
        read = 0
        for what in run:
            if what in ("bob", "ann"):
                authors.append(what)
                sender = BOB if what == "bob" else ANN
                made.append(("written", message(len(authors), sender)))
            elif what == "load" and authors:
                unread = authors[read:].count("bob")
                made.append(("load", [line(len(authors), read, unread)]))
            elif what == "read" and authors:
                # One more than was read before.
                covered = authors[read : read + 1].count("bob")
                read = min(read + 1, len(authors))
                made.append(("read", PAIR, read, covered))
        calls.append(made)
        counted.append(authors[read:].count("bob"))
    body = f"const all = given;\nreturn all.map((given) => {{ {TOLD} }});"
    assert [one["unread"] for one in modules.run(body, calls)] == counted


# -- ticks -------------------------------------------------------------------------------------


def test_a_pairs_tick_shows_the_furthest_that_is_known(modules: Modules) -> None:
    nothing: dict[str, object] = {"seq": 0}
    cases = [
        (message(3, ANN), nothing, nothing),
        (message(3, ANN), {"seq": 2, "at": "d"}, nothing),
        (message(3, ANN), {"seq": 3, "at": "d"}, nothing),
        (message(3, ANN), {"seq": 5, "at": "d"}, {"seq": 3, "at": "r"}),
        (message(3, ANN), nothing, {"seq": 4, "at": "r"}),
        (message(3, ANN, delivered_at="D"), {"seq": 9, "at": "d"}, {"seq": 2, "at": "r"}),
        (message(3, ANN, delivered_at="D", read_at="R"), nothing, nothing),
    ]
    body = "return given.map(([m, delivered, read]) => ticks.pairTick(m, { delivered, read }));"
    assert modules.run(body, cases) == [
        {"state": "stored", "deliveredAt": None, "readAt": None},
        {"state": "stored", "deliveredAt": None, "readAt": None},
        {"state": "delivered", "deliveredAt": "d", "readAt": None},
        {"state": "read", "deliveredAt": "d", "readAt": "r"},
        {"state": "read", "deliveredAt": "r", "readAt": "r"},
        {"state": "delivered", "deliveredAt": "D", "readAt": None},
        {"state": "read", "deliveredAt": "D", "readAt": "R"},
    ]


def member(email: str, delivered: int, read: int, joined: int = 0) -> dict[str, object]:
    joined_at = message(joined)["sent_at"]
    marks = {"delivered_seq": delivered, "read_seq": read}
    return {"email": email, "joined_at": joined_at, **marks}


def test_a_groups_tick_counts_who_was_a_member_when_it_was_written(modules: Modules) -> None:
    author = member(ANN, 3, 3)
    cases = [
        [author],
        [author, member(BOB, 2, 1)],
        [author, member(BOB, 3, 1)],
        [author, member(BOB, 3, 1), member(CAT, 2, 0)],
        [author, member(BOB, 5, 3), member(CAT, 3, 2)],
        [author, member(BOB, 5, 3), member(CAT, 3, 3)],
        [author, member(BOB, 5, 3), member(CAT, 9, 9, joined=4)],
        [author, member(CAT, 9, 9, joined=4)],
    ]
    body = "return given[1].map((members) => ticks.groupTick(given[0], members));"
    found = modules.run(body, [message(3, ANN, group="club"), cases])
    assert [(one["state"], one["delivered"], one["read"], one["waiting"]) for one in found] == [
        ("stored", [], [], []),
        ("stored", [], [], [BOB]),
        ("delivered", [BOB], [], []),
        ("stored", [BOB], [], [CAT]),
        ("delivered", [BOB, CAT], [BOB], []),
        ("read", [BOB, CAT], [BOB, CAT], []),
        ("read", [BOB], [BOB], []),
        ("stored", [], [], []),
    ]


# -- rows --------------------------------------------------------------------------------------

ROWS: Final = """
const all = rows.rowsOf({ pending: [], newFrom: 0, me: "ann@example.org", ...given });
return all.map(({ key, kind, title, first, last }) => ({ key, kind, title, first, last }));
"""


def rows(modules: Modules, *messages: object, **more: object) -> list[dict[str, Any]]:
    return list(modules.run(ROWS, {"messages": messages, "fromStart": False, **more}))


def kinds(found: list[dict[str, Any]]) -> str:
    """The rows in short: the first letters of their kinds, a message ``1`` of a run or ``2``."""
    return "".join(
        ("1" if row["first"] else "2") + ("." if row["last"] else "")
        if row["kind"] == "message"
        else row["kind"][0]
        for row in found
    )


def test_a_day_stands_before_its_first_message_by_the_readers_clock(modules: Modules) -> None:
    # In Berlin 22:30 UTC is 23:30 in winter, and 0:30 of the next day in summer.
    times = ["2026-03-28T22:30:00.000Z", "2026-03-29T21:30:00.000Z", "2026-03-29T22:30:00.000Z"]
    found = rows(modules, *(message(seq, sent_at=at) for seq, at in enumerate(times, 1)))
    assert [row["title"] for row in found if row["kind"] == "day"] == [
        "Saturday 28 March",
        "Sunday 29 March",
        "Monday 30 March",
    ]
    assert kinds(found) == "d1.d1.d1."


def test_messages_of_one_author_within_minutes_stand_together(modules: Modules) -> None:
    assert kinds(rows(modules, message(1), message(2), message(3, ANN), message(4))) == "d12.1.1."
    assert kinds(rows(modules, message(1), message(5))) == "d12."
    assert kinds(rows(modules, message(1), message(6))) == "d1.1."


def test_the_line_above_what_is_new_breaks_a_run(modules: Modules) -> None:
    found = rows(modules, message(1), message(2), message(3), newFrom=2, fromStart=True)
    assert kinds(found) == "sd1.n12."
    assert kinds(rows(modules, message(1), newFrom=9)) == "d1."


def test_the_start_stands_above_everything_where_there_is_anything(modules: Modules) -> None:
    assert kinds(rows(modules, message(1), fromStart=True)) == "sd1."
    assert rows(modules, fromStart=True) == []


def entry(client_id: str, minute: int, **more: object) -> dict[str, object]:
    at = datetime(2026, 3, 2, 9, minute, tzinfo=UTC).timestamp() * 1000
    return {"client_id": client_id, "target": {"user": BOB}, "text": client_id, "at": at, **more}


def test_a_message_keeps_its_key_when_it_is_stored(modules: Modules) -> None:
    waiting = rows(modules, message(1), pending=[entry("x", 2), entry("y", 3)])
    stored = rows(modules, message(1), message(2, ANN, client_id="x"), pending=[entry("y", 3)])
    assert [row["key"] for row in waiting] == [row["key"] for row in stored]
    assert kinds(waiting) == kinds(stored) == "d1.12."


def test_no_two_rows_have_one_key_where_a_stored_message_still_waits_for_its_answer(
    modules: Modules,
) -> None:
    sent = message(2, ANN, client_id="x")
    found = rows(modules, message(1), sent, pending=[entry("x", 2), entry("y", 3)])
    keys = [row["key"] for row in found]
    assert len(keys) == len(set(keys))
    assert [key for key in keys if key.startswith("s")] == ["seq 1", "sent x", "sent y"]


@few
@given(st.lists(st.tuples(st.sampled_from((ANN, BOB, CAT)), st.integers(0, 40)), min_size=20))
def test_every_message_has_one_row_of_its_own_and_every_run_an_end(
    modules: Modules, written: list[tuple[str, int]]
) -> None:
    minutes, at = [], 0
    for sender, hours in written:
        at += hours * 61
        minutes.append((sender, at))
    start = datetime(2026, 3, 20, tzinfo=UTC)
    messages = [
        {**message(seq, sender), "sent_at": (start + timedelta(minutes=minute)).isoformat()}
        for seq, (sender, minute) in enumerate(minutes, 1)
    ]
    found = rows(modules, *messages, fromStart=True)
    keys = [row["key"] for row in found]
    assert len(keys) == len(set(keys))
    assert [key for key in keys if key.startswith("seq ")] == [
        f"seq {seq}" for seq in range(1, len(messages) + 1)
    ]
    told = [row for row in found if row["kind"] == "message"]
    for row, following in pairwise(told):
        assert row["last"] == following["first"]
    assert told[-1]["last"]
