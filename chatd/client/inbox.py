"""What the server says becomes what the program is handed: in order, once, without holes. No I/O.

Where the program stands is known twice: a conversation's *top* is how far it has been taken
from the socket, which tells what is a repeat; its *cursor* is how far it has been handed to the
program, which is what a new connection may rest on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from chatd.client.events import (
    Conversation,
    Cursor,
    Cursors,
    Event,
    Gap,
    Joined,
    Left,
    Message,
    Sent,
)


class Hole(Struct):
    """Messages ``first`` to ``last`` of a conversation, to be fetched from the history."""

    conversation: Conversation
    first: int
    last: int


Item = Event | Hole


class Inbox:
    """Takes events from the socket, and hands them on."""

    def __init__(self, limit: int, cursors: Cursors | None = None) -> None:
        """``limit``: how many events may wait; a message beyond that is left to the history,
        and what is no message is forgotten."""
        self._limit = limit
        self._items: deque[Item] = deque()
        self._tops: dict[Conversation, int] = {}
        self._cursors: dict[Conversation, int] = {}
        self._epoch = ""
        # The user's own messages in front of which others have not been handed yet.
        self._own: set[tuple[Conversation, int]] = set()
        # The hole behind all that waits of a conversation, where it ends in one.
        self._last_holes: dict[Conversation, Hole] = {}
        if cursors is not None:
            self._epoch = cursors.epoch
            self._cursors = {one.conversation: one.seq for one in cursors.cursors}
            self._tops = dict(self._cursors)

    def __len__(self) -> int:
        return len(self._items)

    # -- from the socket -----------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        return len(self._items) >= self._limit

    @property
    def epoch(self) -> str:
        """Which store this is about; empty before the first connection."""
        return self._epoch

    def begin(self, epoch: str) -> None:
        """A connection begins. Where the store is another one, nothing known holds any longer."""
        if epoch != self._epoch:
            self._tops.clear()
            self._cursors.clear()
            self._own.clear()
            self._last_holes.clear()
            self._items = deque(one for one in self._items if not isinstance(one, Message | Hole))
        self._epoch = epoch

    def take(self, event: Event, *, me: str) -> None:
        """What came from the socket, in its order. ``me``: the user's address."""
        if isinstance(event, Message):
            self._take_message(event)
            return
        if isinstance(event, Joined | Left) and event.user == me:
            # A new member's conversation begins behind what was written meanwhile.
            self._forget(event.conversation)
        if not self.is_full:
            self._items.append(event)

    def take_gap(self, gap: Gap) -> None:
        """What the server leaves out is a hole, as far as it is not known yet."""
        first = self._tops.get(gap.conversation, gap.from_seq - 1) + 1
        if first <= gap.to_seq:
            self._leave_out(gap.conversation, first, gap.to_seq)

    def take_sent(self, sent: Sent) -> None:
        """A message of this client's own is stored: it has its place, and is not handed out."""
        where, seq = sent.conversation, sent.seq
        if sent.duplicate:
            # It may be an old one. Where it is new, it comes as a message too.
            return
        if where not in self._tops:
            self._tops[where] = seq - 1
            self._cursors.setdefault(where, seq - 1)
        if seq <= self._tops[where]:
            return
        self._close_up_to(where, seq)
        self._own.add((where, seq))
        self._pass_own(where)

    def _take_message(self, message: Message) -> None:
        where, seq = message.conversation, message.seq
        if seq <= self._tops.get(where, 0):
            return
        if self.is_full:
            self._leave_out(where, self._tops.get(where, seq - 1) + 1, seq)
            return
        self._close_up_to(where, seq)
        self._last_holes.pop(where, None)
        self._items.append(message)

    def _close_up_to(self, where: Conversation, seq: int) -> None:
        """What lies in front of ``seq`` and has not come does not come by itself."""
        top = self._tops.get(where, seq - 1)
        if top + 1 < seq:
            self._leave_out(where, top + 1, seq - 1)
        self._tops[where] = seq

    def _leave_out(self, where: Conversation, first: int, last: int) -> None:
        self._tops[where] = last
        known = self._last_holes.get(where)
        if known is not None:
            known.last = last
            return
        hole = self._last_holes[where] = Hole(where, first, last)
        self._items.append(hole)

    def _forget(self, where: Conversation) -> None:
        self._tops.pop(where, None)
        self._cursors.pop(where, None)
        self._last_holes.pop(where, None)
        self._own = {one for one in self._own if one[0] != where}

    # -- to the program ------------------------------------------------------------------------

    def next(self) -> Item | None:
        """What is next to be handed out; None where nothing waits."""
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, Hole) and self._last_holes.get(item.conversation) is item:
            del self._last_holes[item.conversation]
        return item

    def hand(self, message: Message) -> bool:
        """Move the cursor as this is handed out; False where the program has or wrote it."""
        where, seq = message.conversation, message.seq
        if seq <= self._cursors.get(where, 0):
            return False
        is_own = (where, seq) in self._own
        self._own.discard((where, seq))
        self._move(where, seq)
        self._pass_own(where)
        return not is_own

    def skip(self, hole: Hole) -> None:
        """There is nothing to hand out, up to the hole's end."""
        if hole.last > self._cursors.get(hole.conversation, 0):
            self._move(hole.conversation, hole.last)
            self._pass_own(hole.conversation)

    def _pass_own(self, where: Conversation) -> None:
        while (where, seq := self._cursors.get(where, 0) + 1) in self._own:
            self._own.discard((where, seq))
            self._move(where, seq)

    def _move(self, where: Conversation, seq: int) -> None:
        # Behind all others: what moved last is what a frame has room for.
        self._cursors.pop(where, None)
        self._cursors[where] = seq

    @property
    def cursors(self) -> Cursors:
        """How far everything has been handed out, what moved last behind."""
        return Cursors(self._epoch, tuple(self._all_cursors()))

    def _all_cursors(self) -> Iterator[Cursor]:
        for where, seq in self._cursors.items():
            yield Cursor(seq, where.user, where.group)
