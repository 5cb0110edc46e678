"""How far one's own messages have got, shown in front of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from chatd.client import Conversation, Message, Receipt
from chatd.commands.terminal import Line, Screen, Tick


class Ticks:
    """The ticks of the lines on a screen. In a group they mean everyone of its members."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._delivered: dict[Conversation, dict[str, int]] = defaultdict(dict)
        self._read: dict[Conversation, dict[str, int]] = defaultdict(dict)
        self._lines: dict[Conversation, dict[int, tuple[Line, Tick]]] = defaultdict(dict)

    def know(self, where: Conversation, user: str, delivered: int, read: int) -> None:
        """Another user's marks in a conversation; they go forward only."""
        for marks, seq in (
            (self._delivered[where], max(delivered, read)),
            (self._read[where], read),
        ):
            marks[user] = max(seq, marks.get(user, 0))
        self._show(where)

    def take(self, receipt: Receipt) -> None:
        read = receipt.seq if receipt.kind == "read" else 0
        self.know(receipt.conversation, receipt.by, receipt.seq, read)

    def learn(self, history: Iterable[Message]) -> None:
        """What messages say of their recipient, one to one."""
        for message in history:
            user = message.conversation.user
            if user is not None and message.own:
                delivered = message.seq if message.delivered_at is not None else 0
                read = message.seq if message.read_at is not None else 0
                self.know(message.conversation, user, delivered, read)

    def forget(self, where: Conversation, user: str) -> None:
        """This user is no member any more."""
        self._delivered[where].pop(user, None)
        self._read[where].pop(user, None)
        self._show(where)

    def of(self, where: Conversation, seq: int) -> Tick:
        """The tick of a message that is stored."""
        if not self._delivered[where]:
            return Tick.STORED
        if min(self._read[where].values()) >= seq:
            return Tick.READ
        return Tick.DELIVERED if min(self._delivered[where].values()) >= seq else Tick.STORED

    def follow(self, where: Conversation, seq: int, line: Line, tick: Tick) -> None:
        """Keep the tick of this line, which is ``tick`` now, as it is to be."""
        self._lines[where][seq] = (line, tick)
        self._show(where)

    def _show(self, where: Conversation) -> None:
        lines = self._lines[where]
        for seq, (line, before) in list(lines.items()):
            tick = self.of(where, seq)
            if tick is not before:
                self._screen.mark(line, tick)
                lines[seq] = (line, tick)
            if tick is Tick.READ:
                del lines[seq]
