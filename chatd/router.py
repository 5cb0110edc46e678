"""The chat router: may this user, store it, and to whom does it go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from chatd.addresses import normalize_group
from chatd.connection import Connection, Span
from chatd.directory import Directory
from chatd.errors import (
    ChatError,
    CloseCode,
    GroupExists,
    Invalid,
    NotAMember,
    NothingToLeave,
    RateLimited,
    Unavailable,
    UnknownGroup,
)
from chatd.fanout import FanOut
from chatd.frames import (
    Joined,
    Left,
    Outbound,
    TypingNotice,
    encode,
    message_frame,
    read_frame,
    receipt_frame,
)
from chatd.heads import Heads
from chatd.journal import MessageJournal
from chatd.latency import Latency
from chatd.models import (
    Advance,
    Conversation,
    Draft,
    Group,
    Mark,
    Message,
    Outcome,
    ReceiptKind,
    Stored,
    group_conversation,
    group_of,
    now_ms,
    pair_conversation,
)
from chatd.neighbours import Neighbours
from chatd.news import (
    GroupGoneNews,
    MembershipNews,
    ReadNews,
    TypingNews,
)
from chatd.receipts import Receipts
from chatd.registry import ConnectionRegistry
from chatd.storage.base import Storage

Done = Callable[[Outcome | ChatError], None]

_MOST_GONE: Final = 10_000
"""Deleted groups that are remembered: whoever was let in before the end sends within moments."""


class IdPool(Protocol):
    """Where message ids come from, at once."""

    def take(self) -> str: ...


class SendLimit(Protocol):
    """How often a user may send."""

    def take(self, key: str, now: float) -> float:
        """0.0 where the user may, else the seconds until then."""


class Observer(Protocol):
    """Who hears what the router does."""

    def message_routed(self, copies: int) -> None: ...

    def message_arrived(self, seconds: float) -> None: ...

    def marks_stored(self, size: int) -> None: ...

    def failed(self, event: str, error: BaseException) -> None: ...


class ChatRouter:
    """Everything that goes from one user to others passes here."""

    def __init__(
        self,
        *,
        storage: Storage,
        registry: ConnectionRegistry,
        journal: MessageJournal,
        directory: Directory,
        ids: IdPool,
        send_limit: SendLimit,
        observer: Observer,
        neighbours: Neighbours,
        text_chars: int,
    ) -> None:
        """``text_chars``: the longest text taken, in characters (0: no limit of its own)."""
        self._storage = storage
        self._registry = registry
        self._journal = journal
        self._directory = directory
        self._ids = ids
        self._send_limit = send_limit
        self._neighbours = neighbours
        self.text_chars = text_chars
        # Deleted groups, here or elsewhere, each with a mark of that deletion; the latest last.
        self._gone: dict[str, object] = {}
        self.heads = Heads()
        self._latency = Latency(observer.message_arrived)
        self._fan_out = FanOut(registry, self.heads, observer)
        self.flush = self._fan_out.flush
        journal.on_pause(self.flush)
        self.receipts = Receipts(storage, observer, self.tell_receipt)

    # -- who may -----------------------------------------------------------------------------

    def known_conversation(
        self, user: str, *, to: str | None, group: str | None
    ) -> Conversation | None:
        """`conversation`, from memory alone: None where the storage has to be asked, or refuses."""
        if group is None:
            return pair_conversation(user, to) if to and self._directory.knows(to) else None
        groups = self._registry.groups_of(user)
        known = to is None and groups is not None and group in groups
        return group_conversation(group) if known and group not in self._gone else None

    async def conversation(self, user: str, *, to: str | None, group: str | None) -> Conversation:
        """The conversation a user names, by exactly one of another user and a group.

        Raises:
            Invalid: both or neither are named.
            UnknownUser, UnknownGroup, NotAMember: it is none of this user's.
        """
        if (to is None) == (group is None):
            raise Invalid.field("to", "or group: name exactly one of the two")
        if to is not None:
            return pair_conversation(user, await self._directory.require(to))
        assert group is not None
        return group_conversation(await self.require_member(user, group))

    async def require_member(self, user: str, group: str) -> str:
        """The group's name in its one form; `UnknownGroup` or `NotAMember` else."""
        groups = self._registry.groups_of(user)
        if groups is not None and group in groups and group not in self._gone:
            return group
        name = (await self.require_group(group)).name
        # They may have joined elsewhere just now.
        if not (groups and name in groups) and await self._storage.member(name, user) is None:
            raise NotAMember(f"only members of {name!r} may do this; join it first")
        return name

    async def load_groups(self, user: str) -> None:
        """Read the groups of a user who has just come on line, so that sends need not ask."""
        if self._registry.groups_of(user) is None:
            self._registry.set_groups(user, await self._storage.group_names_of(user))

    async def groups_of(self, user: str) -> Collection[str]:
        """The names of the groups the user is a member of."""
        groups = self._registry.groups_of(user)
        return await self._storage.group_names_of(user) if groups is None else groups

    async def require_group(self, name: str) -> Group:
        """The group of that name, in any spelling; `UnknownGroup` where there is none."""
        try:
            address = normalize_group(name)
        except ValueError:
            raise no_such_group(name) from None
        deletion = self._gone.get(address)
        group = await self._storage.group(address)
        if group is None:
            raise no_such_group(name)
        if deletion is not None and self._gone.get(address) is deletion:
            # It was there after that: it has been made again, here or elsewhere.
            del self._gone[address]
        return group

    # -- messages ----------------------------------------------------------------------------

    def send(
        self,
        sender: str,
        conversation: Conversation,
        text: str,
        client_id: str | None,
        done: Done,
        origin: Connection | None = None,
    ) -> None:
        """Have a message stored and delivered; ``done`` hears the outcome, in commit order.

        ``origin``, the connection it came from, gets no copy: it hears by ``done``, before the
        others get theirs.

        Raises:
            Invalid: the text or the client_id is none.
            UnknownUser: one side of the pair is being erased, or was.
            UnknownGroup: the group was deleted since the conversation was asked for.
            RateLimited: the user sends too fast.
        """
        self._directory.check_open(conversation)
        group = group_of(conversation)
        if group is not None and group in self._gone:
            raise no_such_group(group)
        self._check_text(text)
        if client_id is not None:
            check_client_id(client_id)
        self._charge(sender)
        draft = Draft(
            id=self._ids.take(),
            conversation=conversation,
            sender=sender,
            text=text,
            sent_at=now_ms(),
            client_id=client_id,
        )

        def committed(outcome: Outcome | ChatError) -> None:
            if isinstance(outcome, Stored):
                self._stored(outcome, done, origin)
            else:
                self._fan_out.make_way(conversation, origin)
                done(outcome)

        self._journal.submit(draft, committed)

    def _stored(self, outcome: Stored, done: Done, origin: Connection | None) -> None:
        message = outcome.message
        where, seq, frame = message.conversation, message.seq, encode(message_frame(message))

        def tell() -> None:
            self._fan_out.make_way(where, origin, seq)
            try:
                done(outcome)
            finally:
                self._latency.told(message)
                self._fan_out.add(where, seq, frame, origin)

        self._neighbours.stored(where, seq, frame, tell)

    def hear_message(self, conversation: Conversation, seq: int, frame: bytes) -> None:
        """Another server has stored a message; it is delivered at the next `flush`."""
        self._fan_out.add(conversation, seq, frame)

    def hear_stored(self, message: Message) -> None:
        """The storage has a message that nobody told of."""
        self.hear_message(message.conversation, message.seq, encode(message_frame(message)))

    def seen(self, connection: Connection, conversation: Conversation, seq: int) -> None:
        """A connection has just been given everything up to ``seq``."""
        group = group_of(conversation)
        others = self._registry.of_group(group) if group else self._registry.carrying(conversation)
        self.heads.seen(conversation, seq, first=set(others) <= {connection})

    def hear_closed(self, user: str) -> None:
        """A user was erased, here or elsewhere: who signs up with the address begins anew."""
        self.flush()
        self.heads.forget_pairs(user)
        for connection in self._registry:
            connection.forget_pairs(user)

    def _charge(self, sender: str) -> None:
        wait = self._send_limit.take(sender, asyncio.get_running_loop().time())
        if wait:
            raise RateLimited("too many messages in a short time; slow down", wait)

    async def send_and_wait(
        self, sender: str, conversation: Conversation, text: str, client_id: str | None
    ) -> Outcome:
        """`send`, for callers that wait for the outcome; refusals are raised."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome | ChatError) -> None:
            if future.cancelled():
                return
            if isinstance(outcome, ChatError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        await self._journal.room()
        self.send(sender, conversation, text, client_id, done)
        return await future

    def _check_text(self, text: str) -> None:
        if not text.strip():
            raise Invalid.field("text", "must hold something to read")
        if self.text_chars and len(text) > self.text_chars:
            raise Invalid.field(
                "text", f"must be at most {self.text_chars} characters, this is {len(text)}"
            )
        if "\0" in text:
            raise Invalid.field("text", "must not hold the character NUL")

    def typing(self, user: str, conversation: Conversation) -> None:
        """Show the others that the user is typing; it counts against the limit of sends."""
        self._charge(user)
        self.hear_typing(user, conversation)
        self._neighbours.tell(TypingNews(conversation, user))

    def hear_typing(self, user: str, conversation: Conversation) -> None:
        """A user types, here or elsewhere."""
        frame = encode(TypingNotice(sender=user, group=group_of(conversation)))
        for connection in self._registry.carrying(conversation):
            if connection.user != user:
                connection.write(frame)

    # -- receipts ----------------------------------------------------------------------------

    async def claim(
        self,
        user: str,
        conversation: Conversation,
        kind: ReceiptKind,
        seq: int,
        origin: Connection | None = None,
    ) -> None:
        """A client says that it has, or has read, everything up to ``seq``.

        What was read the user's other connections hear of: all but ``origin``, where it came
        from. Raises `Invalid` where nothing that far has been written.
        """
        last = await self._storage.last_seq(conversation)
        if seq > last:
            raise Invalid.field("seq", f"must not be beyond the last one, {last}")
        if seq:
            self.receipts.claim(Mark(conversation, user, kind, seq, now_ms()))
            if kind is ReceiptKind.READ:
                # They don't wait for the mark to be stored.
                self.hear_read(user, conversation, seq, origin)
                self._neighbours.tell(ReadNews(conversation, user, seq))

    def hear_read(
        self, user: str, conversation: Conversation, seq: int, origin: Connection | None = None
    ) -> None:
        """Keep the user's connections in step with the one that has read so far."""
        frame = encode(read_frame(conversation, user, seq))
        for connection in self._registry.of_user_carrying(user, conversation):
            if connection is not origin:
                connection.write(frame)

    async def store_receipts(self) -> None:
        """Return once every claim so far is stored; `Unavailable` where that fails."""
        if not await self.receipts.flush():
            raise Unavailable("receipts can't be stored now; they will be, a little later")

    def confirmed(self, connection: Connection, spans: list[Span]) -> None:
        """A connection's Pong came: its client's stack has these runs."""
        at = now_ms()
        for span in spans:
            self._latency.confirmed(span.conversation, connection.user, span.seq, at)
            self.receipts.claim(
                Mark(
                    conversation=span.conversation,
                    user=connection.user,
                    kind=ReceiptKind.DELIVERED,
                    seq=span.seq,
                    at=at,
                    since=span.since,
                )
            )

    def tell_receipt(self, advance: Advance) -> None:
        """A mark moved: tell those who wrote what it now covers, wherever they are."""
        self._neighbours.receipt(advance, self.hear_receipt)

    def hear_receipt(self, advance: Advance) -> None:
        """A mark moved, here or elsewhere."""
        if advance.kind is ReceiptKind.DELIVERED:
            self._latency.confirmed(advance.conversation, advance.user, advance.seq, advance.at)
        frame = None
        for sender in advance.senders:
            for connection in self._registry.of_user_carrying(sender, advance.conversation):
                frame = frame or encode(receipt_frame(advance))
                connection.write(frame)

    # -- groups ------------------------------------------------------------------------------

    async def create_group(self, creator: str, name: str, title: str | None) -> Group:
        """Make a group whose first member is its creator; `GroupExists` where it is taken."""
        group = Group(name=name, title=title, created_by=creator, created_at=now_ms())

        async def create() -> bool:
            created = await self._storage.create_group(group)
            if created:
                self._joined(name, creator)
            return created

        if not await self._journal.run(create):
            raise GroupExists(f"there is a group {name!r} already; join it, or take another name")
        return group

    async def join(self, user: str, name: str) -> Group:
        """Make the user a member; once more is no error. `UnknownGroup` where there is none."""
        group = (await self.require_group(name)).name

        async def join() -> None:
            if await self._storage.join(group, user, now_ms()):
                await self._neighbours.admit(group, user)
                self._joined(group, user)

        await self._journal.run(join)
        return await self.require_group(group)

    def _joined(self, group: str, user: str) -> None:
        self.hear_joined(group, user)
        self._neighbours.tell(MembershipNews(group, user, joined=True))

    def hear_joined(self, group: str, user: str) -> None:
        """A user is a member from now on, by what was done here or elsewhere."""
        self._registry.join(group, user)
        self._tell_members(group, Joined(group=group, user=user))

    async def leave(self, user: str, name: str) -> None:
        """End the membership; `NothingToLeave` where there is none."""
        group = (await self.require_group(name)).name

        async def leave() -> bool:
            left = await self._storage.leave(group, user)
            if left:
                self._left(group, user)
            return left

        if not await self._journal.run(leave):
            raise NothingToLeave(f"you are not a member of {group!r}")

    def _left(self, group: str, user: str) -> None:
        self.hear_left(group, user)
        self._neighbours.tell(MembershipNews(group, user, joined=False))

    def hear_left(self, group: str, user: str) -> None:
        """A user is no member any more, by what was done here or elsewhere."""
        self._tell_members(group, Left(group=group, user=user))
        self._put_out(group, user)

    def _put_out(self, group: str, user: str) -> None:
        self._registry.leave(group, user)
        for connection in list(self._registry.of_user(user)):
            if connection.scope.only_group == group:
                connection.end(CloseCode.NOT_A_MEMBER, "not a member any more", reconnect=False)

    async def delete_group(self, name: str) -> None:
        """Remove a group with its memberships; each member hears of their own end only.

        Once this returns nothing more is written in it here.
        """

        async def delete() -> None:
            await self._storage.delete_group(name)
            self.hear_group_gone(name)
            self._neighbours.tell(GroupGoneNews(name))

        await self._journal.run(delete)
        # What was let in before it was gone stands behind that.
        await self._journal.told()

    def hear_group_gone(self, name: str) -> None:
        """A group was deleted, here or elsewhere."""
        self._gone.pop(name, None)
        if len(self._gone) >= _MOST_GONE:
            del self._gone[next(iter(self._gone))]
        self._gone[name] = object()
        for user in list(self._registry.online_users()):
            frame = encode(Left(group=name, user=user))
            for connection in self._registry.of_user_carrying(user, group_conversation(name)):
                if connection in self._registry.of_group(name):
                    connection.write(frame)
            self._put_out(name, user)

    def _tell_members(self, group: str, news: Outbound) -> None:
        frame = encode(news)
        for connection in list(self._registry.of_group(group)):
            connection.write(frame)


def no_such_group(name: str) -> UnknownGroup:
    """What answers to a group that is not there."""
    return UnknownGroup(f"there is no group {name[:64]!r}")


def check_client_id(client_id: str) -> None:
    """`Invalid` unless it is 1 to 64 printable characters."""
    if not 1 <= len(client_id) <= 64 or not client_id.isprintable():
        raise Invalid.field("client_id", "must be 1 to 64 printable characters")
