"""When a draft is the repeat of a stored message."""

from __future__ import annotations

from collections.abc import Iterable

from chatd.models import ClientIdConflict, Draft, Duplicate, Message


def repeats(draft: Draft, first: Message) -> bool:
    """Whether ``draft`` says what ``first`` says, which holds its ``client_id`` or its id."""
    return (
        draft.text == first.text
        and draft.conversation == first.conversation
        and draft.sender == first.sender
        and draft.client_id == first.client_id
    )


def repeated(draft: Draft, first: Message) -> Duplicate | ClientIdConflict:
    """What becomes of a draft whose ``client_id`` or id ``first`` holds."""
    return Duplicate(first) if repeats(draft, first) else ClientIdConflict()


class Earlier:
    """Messages that may hold an id or a client id which a draft of a batch names."""

    def __init__(self, stored: Iterable[Message] = ()) -> None:
        self._by_id: dict[str, Message] = {}
        self._by_client_id: dict[tuple[str, str], Message] = {}
        for message in stored:
            self.add(message)

    def add(self, message: Message) -> None:
        self._by_id[message.id] = message
        if message.client_id is not None:
            self._by_client_id[message.sender, message.client_id] = message

    def first(self, draft: Draft) -> Message | None:
        """The message that holds the draft's ``client_id``, or else its id."""
        first = self._by_id.get(draft.id)
        if draft.client_id is not None:
            first = self._by_client_id.get((draft.sender, draft.client_id), first)
        return first
