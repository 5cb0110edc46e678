"""Conversations longer than a page can hold, and more of them than a screen."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import pytest
from playwright.sync_api import Locator, Page, expect

from chatd.models import group_conversation, now_ms, pair_conversation
from tests.counts import Scale
from tests.e2e.server import Server
from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.filled import HOUR_MS, Filler, draft, fill, to_group
from tests.e2e.web.visitor import Visitor

pytestmark = pytest.mark.browser

log = logging.getLogger(__name__)

CONVERSATIONS: Final = 500
MOST_ROWS: Final = 260
"""More rows than these never stand in the page at once."""

READERS: Final = tuple(f"reader{number}@example.org" for number in range(9))
WRITERS: Final = ("bob@example.org", "cat@example.org")
ANN: Final = "ann@example.org"


class Long(NamedTuple):
    """A conversation many times as long as what stands in the page, of which much is read."""

    messages: int
    read: int


def friend(number: int) -> str:
    return f"friend{number:03}@example.org"


def text(seq: int) -> str:
    """Texts of one line and of several, so that no two screens are equally full."""
    return f"message {seq}" + " and so on" * (seq * 7 % 11) + "\nmore" * (seq % 17 // 13)


async def fill_long(long: Long, filler: Filler) -> None:
    """Two groups, in which others have written: a long one, and one where more will be written."""
    start = now_ms() - (long.messages + 1) * HOUR_MS
    for name, count in (("long", long.messages), ("lively", 400)):
        await filler.group(name, (*WRITERS, *READERS), start)
        await filler.written(
            to_group(name, WRITERS[seq // 3 % 2], text(seq), start + seq * HOUR_MS)
            for seq in range(1, count + 1)
        )
    for reader in READERS:
        await filler.read(group_conversation("long"), reader, long.read, now_ms())
        await filler.read(group_conversation("lively"), reader, 300, now_ms())


async def fill_many(filler: Filler) -> None:
    """Many friends, each of whom has written once, the first of them last."""
    now = now_ms()
    friends = [friend(number) for number in range(CONVERSATIONS)]
    await filler.written(
        draft(pair_conversation(ANN, one), one, f"hello from {number}", now - number * HOUR_MS)
        for number, one in enumerate(friends)
    )
    for one in friends:
        await filler.read(pair_conversation(ANN, one), ANN, 1, now)


@pytest.fixture(scope="module")
def long(scale: Scale) -> Long:
    return scale(Long(messages=3_000, read=2_000), Long(messages=10_000, read=9_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, long: Long) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("many")
    server = Server(folder)
    fill(folder / "chatd.db", fill_many)
    fill(folder / "chatd.db", partial(fill_long, long))
    server.start()
    yield server
    server.close()


# -- watching the log --------------------------------------------------------------------------

WATCH: Final = """
scroller => {
  const list = scroller.querySelector("ol");
  const rows = () => [...list.querySelectorAll("[data-seq]")];
  const tops = () => {
    const { top, bottom } = scroller.getBoundingClientRect();
    const boxes = rows().map((row) => [row.dataset.seq, row.getBoundingClientRect()]);
    const inView = boxes.filter(([, box]) => box.bottom > top && box.top < bottom);
    return new Map(inView.map(([seq, box]) => [seq, box.top]));
  };
  const moved = (before, after) =>
    [...before].filter(([seq]) => after.has(seq)).map(([seq, top]) => after.get(seq) - top);
  const watch = { out: [], most: 0, shifted: 0, seen: new Set(), slowest: 0 };
  window.watch = Object.assign(watch, { up: 0, down: 0, lost: 0 });
  let before = null;
  // What stood where is asked for when the first row comes or goes, and again behind the last.
  for (const [kind, name] of [[Node, "insertBefore"], [Element, "remove"]]) {
    const original = kind.prototype[name];
    kind.prototype[name] = function (...given) {
      if (this === list || this.parentNode === list) before ??= tops();
      return original.apply(this, given);
    };
  }
  new MutationObserver(() => {
    const seqs = rows().map((row) => Number(row.dataset.seq));
    for (let at = 1; at < seqs.length; at += 1) {
      if (seqs[at] !== seqs[at - 1] + 1) watch.out.push([seqs[at - 1], seqs[at]]);
    }
    watch.most = Math.max(watch.most, list.children.length);
    for (const seq of seqs) watch.seen.add(seq);
    const shifts = before ? moved(before, tops()).map(Math.abs) : [];
    watch.shifted = Math.max(watch.shifted, ...shifts);
    before = null;
  }).observe(list, { childList: true });
  let shown = tops();
  let at = performance.now();
  const frame = (now) => {
    const took = now - at;
    watch.slowest = Math.max(watch.slowest, took);
    at = now;
    const next = tops();
    const by = moved(shown, next);
    // A frame that comes late, on a busy machine, shows what the scrolling has come to by then.
    if (shown.size && next.size && !by.length && took < 40) watch.lost += 1;
    watch.down = Math.max(watch.down, ...by);
    watch.up = Math.max(watch.up, ...by.map((one) => -one));
    shown = next;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}
"""


class Watch:
    """Looks at every change of the log and at every frame while one scrolls."""

    def __init__(self, log: Locator) -> None:
        self._page = log.page
        log.evaluate(WATCH)

    def _told(self, what: str) -> Any:
        return self._page.evaluate(f"window.watch.{what}")

    def expect_whole(self) -> None:
        """Nothing was missing or out of order, nothing moved by itself, not too much was there."""
        assert self._told("out") == []
        assert self._told("shifted") <= 1, "pixels that rows in view moved as others came or went"
        assert self._told("most") <= MOST_ROWS

    def expect_seen(self, first: int, last: int) -> None:
        """Each of these messages stood in the page at some time."""
        seen = set(self._page.evaluate("[...window.watch.seen]"))
        assert seen >= set(range(first, last + 1))

    @property
    def slowest(self) -> float:
        """How long the longest frame took, in milliseconds."""
        return float(self._told("slowest"))

    def moved(self) -> dict[str, float]:
        """The longest way a row made from one frame to the next; ``lost``: no row was in both,
        though the next came in time."""
        found = self._page.evaluate("(({ up, down, lost }) => ({ up, down, lost }))(window.watch)")
        return dict(found)


def wheel(page: Page, by: int, until: Locator) -> None:
    """Turn the wheel over the log until something comes into the page."""
    page.get_by_role("log").hover(position={"x": 5, "y": 200})
    while not until.count():
        page.mouse.wheel(0, by)
        frames(page)


def frames(page: Page) -> None:
    """Wait until two frames have been painted: what a scroll led to is on the screen."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def in_view(visitor: Visitor) -> dict[int, float]:
    """The messages that are wholly in view, each with the place of its top."""
    found = visitor.log.evaluate(
        """scroller => {
          const { top, bottom } = scroller.getBoundingClientRect();
          return [...scroller.querySelectorAll("[data-seq]")]
            .map((row) => [row.dataset.seq, row.getBoundingClientRect()])
            .filter(([, box]) => box.top >= top && box.bottom <= bottom)
            .map(([seq, box]) => [seq, box.top]);
        }"""
    )
    return {int(seq): top for seq, top in found}


def reader(visitor: MakeVisitor, email: str, group: str = "long") -> Visitor:
    """Somebody who has opened the group at the first message that they have not read."""
    someone = visitor(viewport={"width": 1000, "height": 700})
    someone.enter(email, f"/group/{group}/connect")
    expect(someone.log.locator(".new")).to_be_in_viewport()
    frames(someone.page)
    return someone


def jump(visitor: Visitor) -> Locator:
    return visitor.page.get_by_role("button", name="Jump to the newest")


# -- one long conversation ---------------------------------------------------------------------


def test_a_long_conversation_opens_where_the_unread_begin(visitor: MakeVisitor, long: Long) -> None:
    someone = reader(visitor, READERS[0])
    shown = in_view(someone)
    assert {long.read + 1, long.read + 2} < shown.keys()
    expect(someone.log.locator(f"[data-seq='{long.read}']")).to_be_in_viewport()
    left = long.messages - max(shown)
    name = f"Jump to the newest, {left} new messages"
    expect(someone.button(name)).to_be_visible()
    expect(someone.badge("long")).to_have_text(f"{left} unread")


def test_scrolling_up_shows_every_message_and_nothing_moves_by_itself(
    visitor: MakeVisitor, long: Long
) -> None:
    someone = reader(visitor, READERS[1])
    watch = Watch(someone.log)
    start = someone.log.get_by_text("This is where the conversation starts.")
    wheel(someone.page, -3000, start)
    someone.page.mouse.wheel(0, -3000)
    expect(start).to_be_in_viewport()
    watch.expect_whole()
    watch.expect_seen(1, long.read)
    log.info("slowest frame while scrolling up: %d ms", watch.slowest)


def test_scrolling_down_again_shows_every_message_to_the_last(
    visitor: MakeVisitor, long: Long
) -> None:
    someone = reader(visitor, READERS[2])
    watch = Watch(someone.log)
    middle = someone.log.locator(f"[data-seq='{long.read - 600}']")
    wheel(someone.page, -3000, middle)
    last = someone.log.locator(f"[data-seq='{long.messages}']")
    wheel(someone.page, 3000, last)
    while jump(someone).is_visible():
        someone.page.mouse.wheel(0, 3000)
        frames(someone.page)
    expect(last).to_be_in_viewport(ratio=1)
    watch.expect_whole()
    watch.expect_seen(long.read - 600, long.messages)
    someone.expect_unread("long", 0)
    log.info("slowest frame while scrolling down: %d ms", watch.slowest)


@pytest.mark.full("ArrowUp", "ArrowDown")
@pytest.mark.parametrize(
    ("email", "key", "goes"),
    [
        (READERS[3], "PageUp", -200),
        (READERS[6], "PageDown", 200),
        (READERS[7], "ArrowUp", -50),
        (READERS[8], "ArrowDown", 80),
    ],
)
def test_with_the_keyboard_one_scrolls_smoothly_over_the_ends_of_pages(
    visitor: MakeVisitor, long: Long, email: str, key: str, goes: int
) -> None:
    someone = reader(visitor, email)
    watch = Watch(someone.log)
    someone.log.focus()
    goal = someone.log.locator(f"[data-seq='{long.read + goes}']")
    while not goal.count():
        someone.page.keyboard.press(key)
        frames(someone.page)
    watch.expect_whole()
    moved = watch.moved()
    assert moved["lost"] == 0
    assert moved["up" if goes < 0 else "down"] <= 1, "never the other way"


def test_from_far_above_one_jumps_to_the_newest(visitor: MakeVisitor, long: Long) -> None:
    someone = reader(visitor, READERS[4])
    jump(someone).click()
    last = someone.log.locator(f"[data-seq='{long.messages}']")
    expect(last).to_be_in_viewport(ratio=1)
    expect(jump(someone)).to_be_hidden()
    someone.expect_unread("long", 0)
    watch = Watch(someone.log)
    wheel(someone.page, -3000, someone.log.locator(f"[data-seq='{long.messages - 500}']"))
    watch.expect_whole()
    jump(someone).click()
    expect(last).to_be_in_viewport(ratio=1)
    expect(jump(someone)).to_be_hidden()
    assert someone.log.locator("ol > li").count() <= MOST_ROWS


def test_live_messages_leave_what_one_reads_in_its_place_and_are_counted(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    eve = account("eve@example.org")
    eve.join("lively")
    someone = reader(visitor, READERS[5], "lively")
    before = in_view(someone)
    left = 400 - max(before)
    expect(someone.button(f"Jump to the newest, {left} new messages")).to_be_visible()
    eve.say("one", "two\nof\nthree\nlines", "three", group="lively")
    expect(someone.button(f"Jump to the newest, {left + 3} new messages")).to_be_visible()
    assert in_view(someone) == before
    jump(someone).click()
    expect(someone.message("three")).to_be_in_viewport(ratio=1)
    eve.say("four", group="lively")
    expect(someone.message("four")).to_be_in_viewport(ratio=1)
    expect(jump(someone)).to_be_hidden()


# -- many conversations ------------------------------------------------------------------------


@pytest.fixture
def ann(visitor: MakeVisitor) -> Visitor:
    ann = visitor(viewport={"width": 1000, "height": 700})
    ann.enter(ANN)
    expect(rows(ann)).to_have_count(CONVERSATIONS)
    return ann


def rows(visitor: Visitor) -> Locator:
    return visitor.list("Conversations").locator("li")


def names(visitor: Visitor) -> list[str]:
    found = rows(visitor).locator(".name").all_text_contents()
    return [name.removesuffix(", on line") for name in found]


def top(row: Locator) -> float:
    return float(row.evaluate("row => row.getBoundingClientRect().top"))


def scroll_to(visitor: Visitor, whom: str) -> Locator:
    """Scroll the list until somebody's line stands at its top."""
    row = visitor.row(whom, among="Conversations")
    row.evaluate("row => row.scrollIntoView()")
    frames(visitor.page)
    row.evaluate("row => row.scrollIntoView()")
    frames(visitor.page)
    return row


def test_the_list_holds_every_conversation_newest_first_and_the_filter_narrows_it(
    ann: Visitor,
) -> None:
    friends = [friend(number) for number in range(CONVERSATIONS)]
    # Tests before this one may have brought some of them to the top.
    assert sorted(names(ann)) == friends
    assert names(ann)[100:300] == friends[100:300]
    ann.find("friend12")
    expect(rows(ann)).to_have_count(10)
    ann.find("FRIEND123")
    expect(rows(ann)).to_have_count(1)
    ann.find("nobody")
    expect(rows(ann)).to_have_count(0)
    ann.find("")
    expect(rows(ann)).to_have_count(CONVERSATIONS)


@pytest.mark.parametrize("writer", [410, 5, 200])
def test_a_new_message_brings_its_conversation_up_and_leaves_the_list_where_it_is(
    ann: Visitor, account: MakeAccount, writer: int
) -> None:
    row = scroll_to(ann, friend(200))
    row.focus()
    beside = ann.row(friend(203), among="Conversations")
    before = top(beside)
    account(friend(writer)).say("news", user=ANN)
    expect(rows(ann).first).to_contain_text(friend(writer))
    frames(ann.page)
    assert abs(top(beside) - before) <= 1
    expect(row).to_be_focused()
