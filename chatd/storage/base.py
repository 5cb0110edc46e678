"""The storage contract: what every adapter promises, and all that the server relies on.

Every method is safe to call concurrently, from the event loop's thread. Every one may raise
`Unavailable` where the backend can't be reached or can't do it now; nothing else escapes an
adapter. A write that returned holds under the adapter's ``promise``; one that raised may or
may not have happened, and every write may be repeated without harm.

``tests/storage/test_contract*.py`` hold each adapter to each sentence here.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

from chatd.models import (
    Advance,
    Conversation,
    Draft,
    Group,
    GroupCursor,
    GroupSort,
    Mark,
    Member,
    Message,
    Outcome,
    Place,
    Position,
    Record,
    RevokedToken,
    Summary,
    SummaryCursor,
    User,
)


class Storage(abc.ABC):
    """Where users, groups, messages and marks are kept."""

    @property
    @abc.abstractmethod
    def promise(self) -> str:
        """One sentence for people: where things are kept, and what they survive."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Open the store, making it where there is none. Call before anything else.

        Raises `Unavailable` where the backend can't be reached now: then call it again, and
        `StorageRefused` where that won't help. Once it has returned it is not called again.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Finish what is under way and let go of the store. Closing twice does nothing."""

    @abc.abstractmethod
    async def epoch(self) -> str:
        """An opaque word, made with the store and the same for as long as it lives."""

    @abc.abstractmethod
    async def ping(self) -> None:
        """Return where the store can read and write, raise `Unavailable` where it can't."""

    # -- users -------------------------------------------------------------------------------

    @abc.abstractmethod
    async def create_user(self, user: User) -> bool:
        """Store a new user; False, changing nothing, where the e-mail address is taken."""

    @abc.abstractmethod
    async def user_by_email(self, email: str) -> User | None: ...

    @abc.abstractmethod
    async def user_by_id(self, user_id: str) -> User | None: ...

    @abc.abstractmethod
    async def users_by_email(self, emails: Sequence[str]) -> list[User]:
        """Those of the addresses that are users, by e-mail address ascending."""

    @abc.abstractmethod
    async def list_users(self, *, prefix: str = "", after: str = "", limit: int) -> list[User]:
        """Users whose address starts with ``prefix`` and is greater than ``after``, ascending."""

    @abc.abstractmethod
    async def set_password(self, email: str, password_hash: str, generation: int) -> None:
        """Replace a user's password hash and generation. An unknown address is ignored."""

    @abc.abstractmethod
    async def touch_last_seen(self, seen: Mapping[str, int]) -> None:
        """Move users' ``last_seen_at`` forward to these times; never back."""

    # -- groups ------------------------------------------------------------------------------

    @abc.abstractmethod
    async def create_group(self, group: Group) -> bool:
        """Store a new group with ``created_by`` its only member, joined at ``created_at``.

        False, changing nothing, where the name is taken. The counts in ``group`` are ignored.
        """

    @abc.abstractmethod
    async def group(self, name: str) -> Group | None: ...

    @abc.abstractmethod
    async def list_groups(
        self,
        *,
        sort: GroupSort = GroupSort.NAME,
        prefix: str = "",
        member: str | None = None,
        after: GroupCursor | None = None,
        limit: int,
    ) -> list[Group]:
        """Groups whose name starts with ``prefix`` (and of which ``member`` is one).

        By name ascending, or by a count descending and then by name ascending; only what comes
        strictly behind ``after`` in that order.
        """

    @abc.abstractmethod
    async def group_names_of(self, user: str) -> list[str]:
        """The names of all groups the user is a member of, ascending."""

    @abc.abstractmethod
    async def join(self, group: str, user: str, at: int) -> bool:
        """Make the user a member, both marks at the group's last seq.

        False, changing nothing, where the user is one already or there is no such group.
        """

    @abc.abstractmethod
    async def leave(self, group: str, user: str) -> bool:
        """End the membership and drop its marks; False where there is none."""

    @abc.abstractmethod
    async def member(self, group: str, user: str) -> Member | None: ...

    @abc.abstractmethod
    async def members(self, group: str, *, after: str = "", limit: int) -> list[Member]:
        """Members whose address is greater than ``after``, by address ascending."""

    # -- messages ----------------------------------------------------------------------------

    @abc.abstractmethod
    async def append(self, batch: Sequence[Draft]) -> list[Outcome]:
        """Store drafts, in this order; one outcome for each, in this order.

        Each gets the next ``seq`` of its conversation: no hole, no double, however many append
        at once. Where the sender has stored this ``client_id`` before (or earlier in this very
        batch), nothing is stored: the outcome is the first message as `Duplicate`, or
        `ClientIdConflict` where text or conversation differ. A message id that is stored already
        is treated alike. The first message of a pair makes
        both users' marks, at 0. Returns only when the adapter's promise holds for all of it.
        """

    @abc.abstractmethod
    async def history(
        self,
        conversation: Conversation,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int,
    ) -> list[Message]:
        """Messages by ``seq`` ascending.

        With ``after_seq`` the first ``limit`` behind it (and, where both are given, still in
        front of ``before_seq``); otherwise the last ``limit`` in front of ``before_seq``, or of
        the conversation's end.
        """

    @abc.abstractmethod
    async def message(self, message_id: str) -> Message | None: ...

    @abc.abstractmethod
    async def last_seq(self, conversation: Conversation) -> int:
        """The conversation's last ``seq``, 0 where nothing was ever written."""

    @abc.abstractmethod
    async def positions(self, user: str) -> list[Position]:
        """Where the user stands in each of their conversations, by conversation ascending.

        These are the groups they are in, and every pair in which something was written.
        """

    @abc.abstractmethod
    async def summaries(
        self, user: str, *, after: SummaryCursor | None = None, limit: int
    ) -> list[Summary]:
        """The user's conversations (as in ``positions``), the most recently active first.

        Equal ``active_at`` are ordered by conversation ascending; only what comes strictly
        behind ``after`` in that order.
        """

    # -- receipts ----------------------------------------------------------------------------

    @abc.abstractmethod
    async def advance(self, marks: Sequence[Mark]) -> list[Advance]:
        """Move marks forward, in this order; one `Advance` for each mark that moved.

        A mark moves only forward, only from ``since - 1`` or beyond, never past the
        conversation's last seq, and only where the user has marks in that conversation; what
        may not move is passed over. Moving a read mark past the delivered mark moves that one
        along, and both are told, the delivered one first. On one-to-one messages of the other
        side that the move covers, ``delivered_at`` or ``read_at`` is stored, once.
        """

    # -- revoked tokens ----------------------------------------------------------------------

    @abc.abstractmethod
    async def revoke_token(self, token_id: str, expires_at: int) -> None:
        """Remember that a token is revoked, at least until ``expires_at``."""

    @abc.abstractmethod
    async def revoked_tokens(self, now: int) -> list[RevokedToken]:
        """The revoked tokens that have not expired by ``now``, by id ascending.

        The others may be forgotten.
        """

    # -- taking away -------------------------------------------------------------------------

    @abc.abstractmethod
    async def prune(self, conversation: Conversation, before: int, limit: int) -> int:
        """Remove what was sent before ``before``, from the conversation's front up to the first
        message that was not; up to ``limit`` messages. How many; fewer than ``limit`` at the end.

        The conversation's last message stays, and loses its text (and its ``client_id``) only, so
        that numbers go on behind it. Marks stay where they are.
        """

    @abc.abstractmethod
    async def reassign(
        self, conversation: Conversation, user: str, author: str, *, blank: bool
    ) -> None:
        """Put ``author`` in the place of ``user``: on the user's messages, which lose their
        ``client_id`` (and where ``blank`` their text), and as who made the group.

        Of a pair ``author`` becomes the side that ``user`` was, place and all: it is the pair of
        ``author`` and the other one from then on. A membership of a group is left alone. Call it
        again where it broke off.
        """

    @abc.abstractmethod
    async def delete_conversation(self, conversation: Conversation) -> None:
        """Remove a pair: its messages, and both users' places."""

    @abc.abstractmethod
    async def delete_group(self, name: str) -> bool:
        """Remove a group and its members, and leave its messages; False where there is none.

        A group that is made again under the name goes on behind the last message.
        """

    @abc.abstractmethod
    async def delete_user(self, email: str) -> bool:
        """Remove a user, and nothing else; False where there is none."""

    @abc.abstractmethod
    async def forget(self) -> None:
        """Remember nothing of where conversations end: another server has renamed some, or removed
        them, and what comes next must not be numbered behind what is no more."""

    # -- everything there is -----------------------------------------------------------------

    @abc.abstractmethod
    async def conversations(
        self, *, prefix: str = "", after: str = "", limit: int
    ) -> list[Conversation]:
        """Every group's conversation, and every one with messages, ascending; those whose key
        starts with ``prefix`` and is greater than ``after``."""

    @abc.abstractmethod
    async def places(
        self, conversation: Conversation, *, after: str = "", limit: int
    ) -> list[Place]:
        """Where users whose address is greater than ``after`` stand, by address ascending."""

    @abc.abstractmethod
    async def written_by(
        self, user: str, conversation: Conversation, *, after_seq: int = 0, limit: int
    ) -> list[Message]:
        """What a user wrote in a conversation behind ``after_seq``, by ``seq`` ascending."""

    @abc.abstractmethod
    async def load(self, records: Sequence[Record]) -> None:
        """Take records of another store as they are, over what is here under the same key.

        A group comes before its messages (its counts are ignored), a conversation's messages come
        by ``seq`` ascending, and before its places. Nobody else may work on the store meanwhile.
        Raises `Conflict` where a message's id, or its sender's ``client_id``, is another's here.
        """

    @abc.abstractmethod
    async def check(self) -> list[str]:
        """What the backend itself finds wrong with the store, a sentence each; may take long."""
