"""What a server tells the others on its store: hints of what is in it, or what never is.

All of it may be lost on the way; what must not be is made good from the store.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chatd.models import Advance, Conversation, Ended


class News(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One thing to know."""


class StoredNews(News, frozen=True, array_like=True, tag="m"):
    """A message is stored; ``frame`` is what clients get, ready to be sent."""

    conversation: Conversation
    seq: int
    frame: bytes


class ReceiptNews(News, frozen=True, array_like=True, tag="r"):
    """A mark moved."""

    advance: Advance


class ReadNews(News, frozen=True, array_like=True, tag="R"):
    """A user has read up to ``seq`` on one device; the others want to know."""

    conversation: Conversation
    user: str
    seq: int


class TypingNews(News, frozen=True, array_like=True, tag="t"):
    """A user is typing."""

    conversation: Conversation
    user: str


class MembershipNews(News, frozen=True, array_like=True, tag="g"):
    """A user joined a group, or left it."""

    group: str
    user: str
    joined: bool


class GroupGoneNews(News, frozen=True, array_like=True, tag="G"):
    """A group was deleted."""

    group: str


class SessionsEndedNews(News, frozen=True, array_like=True, tag="e"):
    """Tokens are good no more."""

    ended: Ended


class UserClosedNews(News, frozen=True, array_like=True, tag="c"):
    """A user is being erased: nobody can write to them."""

    user_id: str
    email: str


class PeopleNews(News, frozen=True, array_like=True, tag="p"):
    """Who has come on line at the server that tells, and who is gone; ``whole`` starts anew."""

    came: Sequence[str]
    went: Sequence[str] = ()
    whole: bool = False


class AskNews(News, frozen=True, array_like=True, tag="a"):
    """Please say who is on line at your place: to the server named."""

    server: str


class PulseNews(News, frozen=True, array_like=True, tag="h"):
    """A server lives. How many packets it has sent to each shard, and last to all; how many
    people it has and a digest of who they are; fingerprints of the keys it accepts, first that
    of the one it signs with; the time by its clock; ``leaving`` where this is the last."""

    sent: Sequence[int]
    people: int
    digest: int
    keys: Sequence[str]
    at: int
    leaving: bool = False


AnyNews = (
    StoredNews
    | ReceiptNews
    | ReadNews
    | TypingNews
    | MembershipNews
    | GroupGoneNews
    | SessionsEndedNews
    | UserClosedNews
    | PeopleNews
    | AskNews
    | PulseNews
)
