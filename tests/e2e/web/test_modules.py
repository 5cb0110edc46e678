"""The web client's modules that need no page: what they make of what they are given.

Each test imports them from a running server into a real browser. A round trip there costs more
than what is asked, so cases go in batches.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from chatd.addresses import normalize_email
from tests.e2e.server import Server

pytestmark = pytest.mark.browser

ANN: Final = "ann@example.org"
BOB: Final = "bob@example.org"
CAT: Final = "cat@example.org"

few = settings(max_examples=15, deadline=None)

MODULES: Final = (
    "doors",
    "outbox",
    "rows",
    "session",
    "shelf",
    "socket",
    "summaries",
    "targets",
    "text",
    "ticks",
    "timeline",
    "times",
)


class Modules:
    """The client's modules in a browser, each under its name."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def run(self, body: str, given: object = None) -> Any:
        """What ``body`` returns, the body of an async function of ``given``."""
        found = ", ".join(f"import('/static/chat/{name}.js')" for name in MODULES)
        names = ", ".join(MODULES)
        return self._page.evaluate(
            f"async (given) => {{ const [{names}] = await Promise.all([{found}]);\n{body} }}", given
        )


@pytest.fixture(scope="module")
def modules(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modules]:
    server = Server(tmp_path_factory.mktemp("modules"))
    # Neither UTC nor without summer time, so that a day is not always 24 hours.
    context = chromium.new_context(locale="en-GB", timezone_id="Europe/Berlin")
    page = context.new_page()
    page.goto(f"{server.start()}/chat")
    yield Modules(page)
    context.close()
    server.close()


def message(seq: int, sender: str = BOB, **more: object) -> dict[str, object]:
    """A message as the server shows it, of minute ``seq`` of an hour."""
    at = datetime(2026, 3, 2, 9, tzinfo=UTC) + timedelta(minutes=seq)
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    to = ANN if sender == BOB else BOB
    return {"from": sender, "to": to, "seq": seq, "text": f"text {seq}", "sent_at": text, **more}


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


# -- text --------------------------------------------------------------------------------------

NODES: Final = """
const shown = (node) => {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (node.localName !== "a" || node.children.length > 0) return null;
  return [node.getAttribute("href"), node.textContent, node.rel, node.target];
};
return given.map((text) => textNodes(text).map(shown));
"""


def nodes(modules: Modules, *texts: str) -> list[list[Any]]:
    """Of each text its nodes: a text as such, a link as what it leads to, shows, and demands."""
    return list(modules.run(f"const {{ textNodes }} = text;\n{NODES}", texts))


LINKED: Final = {
    "see https://example.org": "https://example.org",
    "see https://example.org.": "https://example.org",
    "really, http://example.org/a?b=c&d=e#f?!": "http://example.org/a?b=c&d=e#f",
    "(see https://example.org/a)": "https://example.org/a",
    "https://example.org/a_(b)": "https://example.org/a_(b)",
    "(https://example.org/a_(b)).": "https://example.org/a_(b)",
    "[https://example.org/a]": "https://example.org/a",
    "{https://example.org/[a]}": "https://example.org/[a]",
    "“https://example.org/a”": "https://example.org/a",
    "*https://example.org/a*…": "https://example.org/a",
    "<https://example.org/a>": "https://example.org/a",
    'href="https://example.org/a"': "https://example.org/a",
    "HTTPS://EXAMPLE.ORG/A": "HTTPS://EXAMPLE.ORG/A",
    "siehe:https://münchen.example/straße": "https://münchen.example/straße",
    "日本https://example.jp/本": "https://example.jp/本",
    "http://192.0.2.1:8080/": "http://192.0.2.1:8080/",
    "http://[2001:db8::1]/x": "http://[2001:db8::1]/x",
    "https://example.org/\u202egnp.exe": "https://example.org/",
    "https://example.org/\u2066a": "https://example.org/",
}


def test_a_web_address_is_a_link_without_what_belongs_to_the_sentence(modules: Modules) -> None:
    for text, found in zip(LINKED, nodes(modules, *LINKED), strict=True):
        links = [node for node in found if not isinstance(node, str)]
        address = LINKED[text]
        assert links == [[address, address, "noopener noreferrer nofollow ugc", "_blank"]], text


def test_several_web_addresses_are_as_many_links(modules: Modules) -> None:
    (found,) = nodes(modules, "http://a.example, then http://b.example/ and no more")
    shown = [node if isinstance(node, str) else node[1] for node in found]
    assert shown == ["http://a.example", ", then ", "http://b.example/", " and no more"]


NOT_LINKED: Final = (
    "",
    "plain",
    "example.org",
    "www.example.org",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)//http:",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "ftp://example.org",
    "xhttps://example.org",
    "https://",
    "http://.",
    "https:// example.org",
    "https://ann@example.org/",
    "https://example.org:80@evil.example/",
    "https://ann:secret@example.org",
    "https://example.org%40evil.example",
    "<b>bold</b> & <img src=x onerror=alert(1)>",
)


def test_nothing_else_is_a_link(modules: Modules) -> None:
    for text, found in zip(NOT_LINKED, nodes(modules, *NOT_LINKED), strict=True):
        assert found == ([text] if text else []), text


PIECES: Final = (
    *("http://", "https://", "javascript:", "@", "a.example", "/", ")", "(", "]", "<", '"', "'"),
    *(".", ",", " ", "\n", "\u202e", "\u2066", "\u200f", "é", "👋", "%40", "\\", ":", "#", "&lt;"),
)
pieced = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@few
@given(st.lists(pieced, min_size=50, max_size=100))
def test_no_character_of_a_text_is_lost_and_every_link_leads_where_it_says(
    modules: Modules, texts: list[str]
) -> None:
    for text, found in zip(texts, nodes(modules, *texts), strict=True):
        assert None not in found
        shown = [node if isinstance(node, str) else node[1] for node in found]
        assert "".join(shown) == text
        for node in found:
            if not isinstance(node, str):
                assert node[0] == node[1]
                assert node[0].lower().startswith(("http://", "https://"))
                assert not set(node[0]) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2069 ")


# -- outbox ------------------------------------------------------------------------------------

OUTBOX: Final = """
class Kept {
  values = new Map();
  get(name) { return JSON.parse(this.values.get(name) ?? "null"); }
  put(name, value) { this.values.set(name, JSON.stringify(value)); }
  remove(name) { this.values.delete(name); }
  names() { return [...this.values.keys()]; }
  clear() { this.values.clear(); }
}
const kept = new Kept();
const line = { up: true, sent: [], heard: null };
const send = (frame) => {
  if (!line.up) return false;
  line.sent.push(frame);
  line.heard?.();
  return true;
};
const bob = { user: "bob@example.org" }, club = { group: "club" };
const box = new outbox.Outbox(kept, send);
const texts = () => line.sent.map((frame) => frame.text);
const id = (text) => line.sent.findLast((frame) => frame.text === text).client_id;
"""


def test_one_message_is_under_way_at_a_time_in_the_order_of_writing(modules: Modules) -> None:
    frames, waiting = modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(club, "two"); box.add(bob, "three");
        const waiting = [texts(), box.size, box.of("user:bob@example.org").map((one) => one.text)];
        box.stored(id("one")); waiting.push(texts());
        box.stored(id("two")); box.stored(id("three"));
        waiting.push(box.size, kept.names());
        return [line.sent, waiting];
        """
    )
    assert waiting == [["one"], 3, ["one", "three"], ["one", "two"], 0, []]
    assert [{**frame, "client_id": ""} for frame in frames] == [
        {"type": "send", "to": BOB, "text": "one", "client_id": ""},
        {"type": "send", "group": "club", "text": "two", "client_id": ""},
        {"type": "send", "to": BOB, "text": "three", "client_id": ""},
    ]
    ids = {frame["client_id"] for frame in frames}
    assert len(ids) == 3
    assert all(len(one) == 32 for one in ids)


def test_what_was_under_way_when_the_line_broke_goes_again_first_under_its_name(
    modules: Modules,
) -> None:
    frames = modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(bob, "two");
        line.up = false; box.pause(); box.add(bob, "three");
        line.up = true; box.resume();
        box.stored(id("one")); box.stored(id("two"));
        return line.sent;
        """
    )
    assert [frame["text"] for frame in frames] == ["one", "one", "two", "three"]
    assert frames[0] == frames[1]


def test_what_the_server_refuses_for_good_is_kept_and_lets_the_next_go(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(bob, "two");
        box.refused({ client_id: id("one"), code: "invalid", message: "no" });
        const [failed] = box.of("user:bob@example.org");
        const seen = [texts(), failed.failed, kept.get(failed.client_id).failed];
        box.resume(); box.stored(id("two"));
        seen.push(texts(), box.size);
        box.retry(failed.client_id);
        seen.push(texts(), box.of("user:bob@example.org")[0].failed ?? null);
        box.stored(failed.client_id);
        seen.push(box.size);
        return seen;
        """
    ) == [
        ["one", "two"],
        "no",
        "no",
        ["one", "two", "two"],
        1,
        ["one", "two", "two", "one"],
        None,
        0,
    ]


def test_what_is_discarded_is_gone_and_lets_the_next_go(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(bob, "two");
        box.discard(id("one"));
        return [texts(), box.size, kept.names().length, box.stored("unknown") ?? null];
        """
    ) == [["one", "two"], 1, 1, None]


def test_a_refusal_that_passes_is_waited_out_and_nothing_overtakes(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(bob, "two");
        const again = new Promise((heard) => (line.heard = heard));
        box.refused({ client_id: id("one"), code: "rate_limited", retry_after: 0.01 });
        const before = [texts(), box.of("user:bob@example.org").map((one) => one.failed ?? null)];
        await again;
        return [...before, texts(), new Set(line.sent.map((frame) => frame.client_id)).size];
        """
    ) == [["one"], [None, None], ["one", "one"], 1]


def test_what_a_closed_tab_left_unsent_is_sent_by_whoever_has_a_line(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        line.up = false;
        const other = new outbox.Outbox(kept, () => false);
        box.add(bob, "mine"); other.add(bob, "other's");
        kept.put("junk", { text: "no name" }); kept.put("nothing", null);
        line.up = true; box.resume();
        box.stored(id("mine")); box.stored(id("other's"));
        other.resume();
        return [texts(), box.size, other.size];
        """
    ) == [["mine", "other's"], 0, 0]


def test_a_reload_finds_everything_in_the_order_of_writing(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        line.up = false;
        const written = Array.from({ length: 20 }, (_, number) => `text ${number}`);
        for (const text of written) box.add(bob, text);
        kept.values = new Map([...kept.values].toSorted());
        const again = new outbox.Outbox(kept, send);
        const found = again.of("user:bob@example.org").map((one) => one.text);
        again.clear();
        return [found.join() === written.join(), again.size, kept.names().length];
        """
    ) == [True, 0, 0]


def test_every_change_is_told(modules: Modules) -> None:
    assert (
        modules.run(
            OUTBOX
            + """
        let changes = 0;
        box.addEventListener("change", () => (changes += 1));
        const told = (act) => { const before = changes; act(); return changes > before; };
        return [
          told(() => box.add(bob, "one")),
          told(() => box.refused({ client_id: id("one"), code: "invalid", message: "no" })),
          told(() => box.retry(id("one"))),
          told(() => box.stored(id("one"))),
        ];
        """
        )
        == [True] * 4
    )


# -- shelf -------------------------------------------------------------------------------------


def test_a_shelf_keeps_values_by_kind_and_user_and_reads_junk_as_nothing(modules: Modules) -> None:
    assert modules.run(
        """
        const one = new shelf.Shelf("draft", "ann@example.org");
        const others = [
          new shelf.Shelf("draft", "an@example.org"),
          new shelf.Shelf("outbox", "ann@example.org"),
        ];
        one.put("a:b", { deep: ["é", 1] }); one.put("c", "text");
        localStorage.setItem("chatd.draft:ann@example.org:junk", "{");
        const again = new shelf.Shelf("draft", "ann@example.org");
        const seen = [again.get("a:b"), again.get("junk"), again.get("none")];
        seen.push(again.names().toSorted());
        for (const other of others) { other.put("x", 1); other.clear(); }
        seen.push(again.names().length);
        again.remove("c"); seen.push(again.get("c"));
        again.clear(); seen.push(again.names(), localStorage.length);
        return seen;
        """
    ) == [{"deep": ["é", 1]}, None, None, ["a:b", "c", "junk"], 3, None, [], 0]


def test_where_the_browser_keeps_nothing_values_live_as_long_as_the_page(
    modules: Modules,
) -> None:
    assert modules.run(
        """
        const full = () => { throw new DOMException("no", "QuotaExceededError"); };
        const storage = Object.create({ getItem: () => null, setItem: full, removeItem() {} });
        const one = new shelf.Shelf("draft", "ann@example.org", storage);
        one.put("a", 1); one.put("a", 2); one.put("b", 3);
        const seen = [one.get("a"), one.get("none"), one.names().toSorted()];
        one.remove("a"); seen.push(one.get("a"), one.names());
        one.clear(); seen.push(one.names());
        return seen;
        """
    ) == [2, None, ["a", "b"], None, ["b"], []]


# -- socket ------------------------------------------------------------------------------------


def test_pauses_between_attempts_double_up_to_half_a_minute_and_differ(modules: Modules) -> None:
    shortest, longest, drawn = modules.run(
        """
        const attempts = Array.from({ length: 2000 }, (_, attempt) => attempt);
        const drawn = Array.from({ length: 200 }, () => socket.backoff(3));
        return [
          attempts.map((attempt) => socket.backoff(attempt, 0)),
          attempts.map((attempt) => socket.backoff(attempt, 1)),
          drawn,
        ];
        """
    )
    assert longest[:7] == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    assert set(longest[5:]) == {30_000}
    assert [2 * one for one in shortest] == longest
    assert all(4_000 <= one <= 8_000 for one in drawn)
    assert len(set(drawn)) > 100


# -- doors -------------------------------------------------------------------------------------


def test_a_token_in_the_address_is_found(modules: Modules) -> None:
    cases = {
        "": None,
        "?": None,
        "?Authorization": None,
        "?Authorization=": None,
        "?authorization=a.b.c": None,
        "?Authorization=a.b.c": "a.b.c",
        "?Authorization=Bearer%20a.b.c": "a.b.c",
        "?Authorization=bearer+a.b.c": "a.b.c",
        "?x=1&Authorization=a.b.c&y": "a.b.c",
    }
    body = "return given.map((search) => doors.tokenIn({ search }));"
    assert dict(zip(cases, modules.run(body, list(cases)), strict=True)) == cases


AT: Final = "return given.map((address) => doors.targetAt(new URL(address, location.origin)));"


def test_an_address_opens_a_conversation(modules: Modules) -> None:
    cases = {
        "/chat": None,
        "/chat/user": None,
        "/chat/user#": None,
        "/chat/user#%20": None,
        "/chat#ann@example.org": None,
        "/group/club": None,
        "/group//connect": None,
        "/group/a/b/connect": None,
        "/group/club/connect": {"group": "club"},
        "/group/Club/connect?x#y": {"group": "club"},
        "/group/%20CLUB%20/connect": {"group": "club"},
        "/group/%E0%A4%A/connect": {"group": "%e0%a4%a"},
        "/chat/user#ann@example.org": {"user": ANN},
        "/chat/user#%20Ann%40EXAMPLE.org": {"user": ANN},
        "/chat/user#jos%C3%A9@example.org": {"user": "josé@example.org"},
        "/chat/user#jose%CC%81@example.org": {"user": "josé@example.org"},
        "/chat/user#50%@example.org": {"user": "50%@example.org"},
    }
    assert dict(zip(cases, modules.run(AT, list(cases)), strict=True)) == cases


names = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="\\"),
    min_size=1,
    max_size=12,
)


@few
@given(st.lists(st.tuples(st.sampled_from(("user", "group")), names), min_size=50))
def test_what_an_address_was_made_for_is_what_it_opens(
    modules: Modules, made: list[tuple[str, str]]
) -> None:
    body = """
    return given.map(([kind, name]) => {
      const target = { [kind]: targets.normalized(name) };
      const address = new URL(doors.addressOf(target), location.origin);
      return [target, doors.targetAt(address), address.search];
    });
    """
    # A dot or two alone are a way through folders, whatever they are written as.
    given_names = [(kind, "x" if set(name) <= {"."} else name) for kind, name in made]
    for target, opened, query in modules.run(body, given_names):
        assert opened == target
        assert query == ""


def test_no_conversation_has_the_address_of_the_list(modules: Modules) -> None:
    assert modules.run("return doors.addressOf(null);") == "/chat"


ADDRESSES: Final = (
    " Ann@Example.ORG ",
    "ａｎｎ＠ｅｘａｍｐｌｅ．ｏｒｇ",
    "JOSE\u0301@example.org",
    "\u212aelvin@example.org",
    "\U0001d400nn@example.org",
    "H\u0331@example.org",
)


def test_a_typed_address_becomes_the_one_that_the_server_knows(modules: Modules) -> None:
    found = modules.run("return given.map(targets.normalized);", list(ADDRESSES))
    assert found == [normalize_email(typed) for typed in ADDRESSES]


# -- session -----------------------------------------------------------------------------------


def token(payload: object) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(payload, ensure_ascii=False).encode())
    return f"h.{encoded.decode().rstrip('=')}.s"


SESSION: Final = """
return given.map(([token, left]) => {
  const kept = new Map();
  const storage = {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => kept.set(name, value),
    removeItem: (name) => kept.delete(name),
  };
  const one = new session.Session(storage);
  one.token = token;
  const untold = one.renewAt === Infinity;
  one.lasts(left, 1_000_000);
  const at = one.renewAt;
  one.end();
  return [untold, at, one.token, one.renewAt === Infinity];
});
"""


def test_a_token_is_renewed_half_way_through_its_life(modules: Modules) -> None:
    hour = {"iat": 5_000, "exp": 8_600, "sub": "жÿ?>"}
    cases = [(token(hour), 3_600), (token(hour), 1_800), (token(hour), 600)]
    found = modules.run(SESSION, cases)
    assert [one[1] for one in found] == [2_800_000, 1_000_000, -200_000]
    assert all(one[0] and one[2] is None and one[3] for one in found)


def test_what_is_no_token_is_renewed_when_it_ends(modules: Modules) -> None:
    junk = ["", "x", "a.b.c", "a..c", "..", token([]), token("x"), token({"exp": 5}), token(None)]
    found = modules.run(SESSION, [(one, 60) for one in junk])
    assert [one[1] for one in found] == [1_060_000] * len(junk)


# -- times -------------------------------------------------------------------------------------


def test_times_are_told_as_shortly_as_they_are_clear(modules: Modules) -> None:
    body = """
    const now = new Date(2026, 2, 30, 0, 30);
    return given.map((parts) => {
      const date = new Date(...parts);
      return [times.dayTitle(date, now), times.brief(date, now), times.briefWithClock(date, now)];
    });
    """
    cases = [
        (2026, 2, 30, 0, 5),
        (2026, 2, 30, 0, 35),
        # The night in which summer time begins: yesterday had 23 hours.
        (2026, 2, 29, 0, 5),
        (2026, 2, 28, 23, 59),
        (2026, 2, 24, 8, 0),
        (2026, 2, 23, 8, 0),
        (2025, 11, 31, 8, 0),
    ]
    assert modules.run(body, cases) == [
        ["Today", "00:05", "00:05"],
        ["Today", "00:35", "00:35"],
        ["Yesterday", "Sun", "Sun 00:05"],
        ["Saturday 28 March", "Sat", "Sat 23:59"],
        ["Tuesday 24 March", "Tue", "Tue 08:00"],
        ["Monday 23 March", "23 Mar", "23 Mar 08:00"],
        ["Wednesday, 31 December 2025", "31 Dec 2025", "31 Dec 2025 08:00"],
    ]


def test_an_address_in_a_path_is_written_so_that_it_stays_one_part(modules: Modules) -> None:
    body = "return given.map((user) => targets.pathOf({ user }));"
    users = ["a/b@example.org", "a?b#c@example.org", "é%40@example.org"]
    assert modules.run(body, users) == [f"/v1/users/{quote(user, safe='')}" for user in users]
