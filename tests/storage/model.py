"""The storage contract as a model that is slow and obviously right: lists, searched from the front.

It keeps nothing that could be counted or looked up: no last seq, no counts, no index. What
changes the store is called as in `Storage`; what reads it gives all there is, without pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from chatd.models import (
    Advance,
    ClientIdConflict,
    Conversation,
    Draft,
    Duplicate,
    Group,
    GroupSort,
    Mark,
    Member,
    Message,
    Outcome,
    Position,
    ReceiptKind,
    Stored,
    Summary,
    User,
    group_conversation,
    other_of,
    pair_of,
)


@dataclass
class _Place:
    conversation: Conversation
    user: str
    joined_at: int
    seqs: dict[ReceiptKind, int]


@dataclass
class Model:
    all_users: list[User] = field(default_factory=list)
    all_groups: list[Group] = field(default_factory=list)
    all_messages: list[Message] = field(default_factory=list)
    places: list[_Place] = field(default_factory=list)

    # -- users and groups --------------------------------------------------------------------

    def create_user(self, user: User) -> bool:
        if any(one.email == user.email for one in self.all_users):
            return False
        self.all_users.append(user)
        return True

    def users(self) -> list[User]:
        return sorted(self.all_users, key=lambda one: one.email)

    def set_password(self, email: str, password_hash: str, generation: int) -> None:
        for index, one in enumerate(self.all_users):
            if one.email == email:
                self.all_users[index] = msgspec.structs.replace(
                    one, password_hash=password_hash, generation=generation
                )

    def touch_last_seen(self, seen: Mapping[str, int]) -> None:
        for index, one in enumerate(self.all_users):
            at = seen.get(one.email)
            if at is not None and (one.last_seen_at is None or one.last_seen_at < at):
                self.all_users[index] = msgspec.structs.replace(one, last_seen_at=at)

    def create_group(self, group: Group) -> bool:
        if any(one.name == group.name for one in self.all_groups):
            return False
        self.all_groups.append(group)
        return self.join(group.name, group.created_by, group.created_at)

    def groups(self, sort: GroupSort) -> list[Group]:
        counted = [
            msgspec.structs.replace(
                one, members=len(self.members(one.name)), messages=len(self.history_of(one.name))
            )
            for one in self.all_groups
        ]
        rank = {
            GroupSort.NAME: lambda one: (0, one.name),
            GroupSort.MEMBERS: lambda one: (-one.members, one.name),
            GroupSort.MESSAGES: lambda one: (-one.messages, one.name),
        }
        return sorted(counted, key=rank[sort])

    def join(self, group: str, user: str, at: int) -> bool:
        conversation = group_conversation(group)
        exists = any(one.name == group for one in self.all_groups)
        if not exists or self._place(conversation, user):
            return False
        self._make_place(conversation, user, at, len(self.history(conversation)))
        return True

    def leave(self, group: str, user: str) -> bool:
        place = self._place(group_conversation(group), user)
        if place is None:
            return False
        self.places.remove(place)
        return True

    def members(self, group: str) -> list[Member]:
        return [
            Member(group, one.user, one.joined_at, *one.seqs.values())
            for one in sorted(self.places, key=lambda one: one.user)
            if one.conversation == group_conversation(group)
        ]

    # -- messages ----------------------------------------------------------------------------

    def append(self, batch: Sequence[Draft]) -> list[Outcome]:
        return [self._append(draft) for draft in batch]

    def _append(self, draft: Draft) -> Outcome:
        for one in self.all_messages:
            if draft.client_id is not None and one.client_id == draft.client_id:
                if one.sender != draft.sender:
                    continue
                same = one.text == draft.text and one.conversation == draft.conversation
                return Duplicate(one) if same else ClientIdConflict()
        for one in self.all_messages:
            if one.id == draft.id:
                return Duplicate(one)
        seq = len(self.history(draft.conversation)) + 1
        for user in set(pair_of(draft.conversation) or ()) if seq == 1 else ():
            self._make_place(draft.conversation, user, draft.sent_at, 0)
        message = Message(seq=seq, **msgspec.structs.asdict(draft))
        self.all_messages.append(message)
        return Stored(message)

    def history(self, conversation: Conversation) -> list[Message]:
        return [one for one in self.all_messages if one.conversation == conversation]

    def history_of(self, group: str) -> list[Message]:
        return self.history(group_conversation(group))

    def positions(self, user: str) -> list[Position]:
        return [
            Position(one.conversation, len(self.history(one.conversation)), *one.seqs.values())
            for one in sorted(self.places, key=lambda one: one.conversation)
            if one.user == user
        ]

    def summaries(self, user: str) -> list[Summary]:
        lines = [self._summary(one) for one in self.places if one.user == user]
        return sorted(lines, key=lambda line: (-line.active_at, line.conversation))

    def _summary(self, place: _Place) -> Summary:
        history = self.history(place.conversation)
        read_seq = place.seqs[ReceiptKind.READ]
        return Summary(
            conversation=place.conversation,
            last_message=history[-1] if history else None,
            last_seq=len(history),
            read_seq=read_seq,
            unread=sum(one.seq > read_seq and one.sender != place.user for one in history),
            active_at=history[-1].sent_at if history else place.joined_at,
        )

    # -- marks -------------------------------------------------------------------------------

    def advance(self, marks: Iterable[Mark]) -> list[Advance]:
        return [moved for mark in marks for moved in self._advance(mark)]

    def _advance(self, mark: Mark) -> Iterable[Advance]:
        place = self._place(mark.conversation, mark.user)
        if place is None or mark.seq > len(self.history(mark.conversation)):
            return
        if mark.seq <= place.seqs[mark.kind] or place.seqs[mark.kind] + 1 < mark.since:
            return
        kinds = [ReceiptKind.DELIVERED, ReceiptKind.READ]
        for kind in kinds[: kinds.index(mark.kind) + 1]:
            old = place.seqs[kind]
            senders = set()
            while place.seqs[kind] < mark.seq:
                place.seqs[kind] += 1
                senders.add(self._cover(mark, kind, place.seqs[kind]))
            if place.seqs[kind] > old:
                senders.discard(mark.user)
                yield Advance(
                    mark.conversation, mark.user, kind, old, mark.seq, mark.at, frozenset(senders)
                )

    def _cover(self, mark: Mark, kind: ReceiptKind, seq: int) -> str:
        """Move over one message: store the receipt where it is to be; who wrote it."""
        for index, one in enumerate(self.all_messages):
            if (one.conversation, one.seq) == (mark.conversation, seq):
                is_pair = pair_of(one.conversation) is not None
                if is_pair and one.sender == other_of(one.conversation, mark.user):
                    receipt = {f"{kind}_at": mark.at}
                    self.all_messages[index] = msgspec.structs.replace(one, **receipt)
                return one.sender
        raise AssertionError("a mark moves over messages that are there")

    def _place(self, conversation: Conversation, user: str) -> _Place | None:
        for one in self.places:
            if (one.conversation, one.user) == (conversation, user):
                return one
        return None

    def _make_place(self, conversation: Conversation, user: str, at: int, seq: int) -> None:
        seqs = {ReceiptKind.DELIVERED: seq, ReceiptKind.READ: seq}
        self.places.append(_Place(conversation, user, at, seqs))
