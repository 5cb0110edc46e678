"""When a draft is the repeat of a stored message."""

from __future__ import annotations

from chatd.models import Draft, Message


def repeats(draft: Draft, first: Message) -> bool:
    """Whether ``draft`` says what ``first`` says, which holds its ``client_id`` or its id."""
    return (
        draft.text == first.text
        and draft.conversation == first.conversation
        and draft.sender == first.sender
        and draft.client_id == first.client_id
    )
