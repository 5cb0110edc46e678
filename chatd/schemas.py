"""What the REST API takes and gives, field by field: pydantic models, documented by OpenAPI.

Bodies are strict: a wrong type or an unknown field is refused, never bent into shape.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Final, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chatd.addresses import normalize_email, normalize_group
from chatd.models import (
    Group,
    GroupSort,
    Member,
    Message,
    Summary,
    User,
    group_of,
    other_of,
    rfc3339,
)
from chatd.security import check_password

_UNSHOWN: Final = {"Cc", "Zl", "Zp"}
_TURNING: Final = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
"""Bidirectional formatting characters (UAX #9): they would turn what stands next to a title."""


def _check_title(text: str) -> str:
    if not text.strip():
        raise ValueError("A title holds something to read.")
    if any(
        unicodedata.category(character) in _UNSHOWN
        or unicodedata.bidirectional(character) in _TURNING
        for character in text
    ):
        raise ValueError("A title is one line without control or bidirectional formatting.")
    return text


_TYPED: Final = 512
"""Characters of a name or a password as typed: each that counts may be made of four. To bring
30,000 of them into their normal form holds the loop for a second."""

Email = Annotated[
    str, Field(examples=["ann@example.org"], max_length=320), AfterValidator(normalize_email)
]
GroupName = Annotated[
    str, Field(examples=["python"], max_length=_TYPED), AfterValidator(normalize_group)
]
Title = Annotated[
    str,
    Field(min_length=1, max_length=128, examples=["All things Python"]),
    AfterValidator(_check_title),
]
Password = Annotated[
    str,
    Field(
        examples=["correct horse battery"],
        json_schema_extra={"format": "password"},
        max_length=_TYPED,
    ),
    AfterValidator(lambda text: check_password(text) or text),
]
Seq = Annotated[int, Field(ge=0, le=2**53 - 1)]
Time = Annotated[
    str,
    Field(examples=["2026-01-31T12:00:00.000Z"], json_schema_extra={"format": "date-time"}),
]


class Body(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """What a client asks for in the query."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """What the server answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


# -- signing in --------------------------------------------------------------------------------


class Credentials(Body):
    """An e-mail address and a password; a new address makes an account."""

    email: Email
    password: Password


class PasswordChange(Body):
    """The password as it is, and as it is to be."""

    current: Password
    new: Annotated[Password, Field(examples=["staple battery correct"])]


class UserView(View):
    """A registered user."""

    id: str
    email: str
    created_at: Time

    @classmethod
    def of(cls, user: User) -> UserView:
        return cls(id=user.id, email=user.email, created_at=rfc3339(user.created_at))


class TokenView(View):
    """A JWT to send as ``Authorization: Bearer``; ``expires_in`` counts seconds."""

    token: str
    token_type: Annotated[str, Field(examples=["Bearer"])] = "Bearer"
    expires_in: int
    user: UserView


class SessionView(UserView):
    """The user behind the token, and the token's own times."""

    issued_at: Time
    expires_at: Time


# -- users -------------------------------------------------------------------------------------


class UserPresenceView(UserView):
    """A user as others see them."""

    online: bool
    last_seen_at: Time | None

    @classmethod
    def seen(cls, user: User, *, online: bool) -> UserPresenceView:
        return cls(
            **UserView.of(user).model_dump(),
            online=online,
            last_seen_at=None if user.last_seen_at is None else rfc3339(user.last_seen_at),
        )


class PageQuery(Query):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[
        str | None, Field(description="The `next` of the page before.", max_length=1000)
    ] = None


class UsersQuery(PageQuery):
    """Which users."""

    online: Annotated[bool | None, Field(description="Only those on line (or off line).")] = None
    prefix: Annotated[str, Field(description="How the address starts.", max_length=254)] = ""


_Item = TypeVar("_Item", bound=BaseModel)


class Page(View, Generic[_Item]):
    """A part of a list; ``next`` asks for what follows, and is null at the end."""

    items: list[_Item]
    next: str | None


# -- groups ------------------------------------------------------------------------------------


class NewGroup(Body):
    """A group to make: 2-64 characters of ``a-z 0-9 . _ -``, and a title for display."""

    name: GroupName
    title: Title | None = None


class GroupView(View):
    """A group; ``joined`` tells whether the caller is a member."""

    name: str
    title: str | None
    created_at: Time
    members: int
    messages: int
    joined: bool

    @classmethod
    def of(cls, group: Group, *, joined: bool) -> GroupView:
        return cls(
            name=group.name,
            title=group.title,
            created_at=rfc3339(group.created_at),
            members=group.members,
            messages=group.messages,
            joined=joined,
        )


class GroupsQuery(PageQuery):
    """Which groups, in which order."""

    prefix: Annotated[str, Field(description="How the name starts.", max_length=64)] = ""
    sort: Annotated[
        GroupSort, Field(description="By name, or by the most members or messages first.")
    ] = GroupSort.NAME


class MemberView(View):
    """A member, and how far messages were delivered to and read by them."""

    email: str
    joined_at: Time
    online: bool
    delivered_seq: int
    read_seq: int

    @classmethod
    def of(cls, member: Member, *, online: bool) -> MemberView:
        return cls(
            email=member.email,
            joined_at=rfc3339(member.joined_at),
            online=online,
            delivered_seq=member.delivered_seq,
            read_seq=member.read_seq,
        )


# -- messages ----------------------------------------------------------------------------------


class NewMessage(Body):
    """A message to send. With a ``client_id``, sending it again is the same message."""

    text: Annotated[str, Field(min_length=1, examples=["Hello, world"])]
    client_id: Annotated[str | None, Field(min_length=1, max_length=64, examples=["a3f1"])] = None


class MessageView(View):
    """A stored message, as its reader sees it."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    sender: Annotated[str, Field(alias="from")]
    to: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    group: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    seq: int
    text: str
    sent_at: Time
    client_id: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    delivered_at: Annotated[Time | None, Field(exclude_if=lambda value: value is None)] = None
    read_at: Annotated[Time | None, Field(exclude_if=lambda value: value is None)] = None

    @classmethod
    def of(cls, message: Message, viewer: str) -> MessageView:
        """``client_id`` is shown to its sender only."""
        return cls.model_validate(_message_fields(message, viewer))


class SentView(MessageView):
    """The message as stored; ``duplicate`` where an earlier send stored it."""

    duplicate: bool

    @classmethod
    def sent(cls, message: Message, *, duplicate: bool) -> SentView:
        return cls.model_validate(
            {**_message_fields(message, message.sender), "duplicate": duplicate}
        )


def _message_fields(message: Message, viewer: str) -> dict[str, str | int | None]:
    group = group_of(message.conversation)
    return {
        "id": message.id,
        "from": message.sender,
        "to": None if group else other_of(message.conversation, message.sender),
        "group": group,
        "seq": message.seq,
        "text": message.text,
        "sent_at": rfc3339(message.sent_at),
        "client_id": message.client_id if viewer == message.sender else None,
        "delivered_at": None if message.delivered_at is None else rfc3339(message.delivered_at),
        "read_at": None if message.read_at is None else rfc3339(message.read_at),
    }


class HistoryQuery(Query):
    """Which part of a conversation: the last ``limit`` in front of ``before_seq``, or the first
    behind ``after_seq``."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before_seq: Seq | None = None
    after_seq: Seq | None = None


class HistoryView(View):
    """Messages by ``seq`` ascending; ``has_more`` in the direction asked for."""

    items: list[MessageView]
    has_more: bool


class ReceiptMarks(Body):
    """How far messages have arrived at, or been read by, the caller."""

    delivered_seq: Annotated[Seq | None, Field(examples=[1])] = None
    read_seq: Annotated[Seq | None, Field(examples=[1])] = None


class ConversationView(View):
    """One conversation of the caller's: with a group, or with a user."""

    user: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    group: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    last_message: MessageView | None
    last_seq: int
    read_seq: int
    unread: int

    @classmethod
    def of(cls, summary: Summary, viewer: str) -> ConversationView:
        group = group_of(summary.conversation)
        last = summary.last_message
        return cls(
            user=None if group else other_of(summary.conversation, viewer),
            group=group,
            last_message=None if last is None else MessageView.of(last, viewer),
            last_seq=summary.last_seq,
            read_seq=summary.read_seq,
            unread=summary.unread,
        )


# -- all of one's own --------------------------------------------------------------------------


class ExportedUserView(UserView):
    """An account, for whose it is."""

    last_seen_at: Time | None

    @classmethod
    def of(cls, user: User) -> ExportedUserView:
        return cls(
            id=user.id,
            email=user.email,
            created_at=rfc3339(user.created_at),
            last_seen_at=None if user.last_seen_at is None else rfc3339(user.last_seen_at),
        )


class MembershipView(View):
    """A group that one is in."""

    group: str
    joined_at: Time
    delivered_seq: int
    read_seq: int

    @classmethod
    def of(cls, member: Member) -> MembershipView:
        return cls(
            group=member.group,
            joined_at=rfc3339(member.joined_at),
            delivered_seq=member.delivered_seq,
            read_seq=member.read_seq,
        )


class ExportedConversationView(View):
    """All that was written with a user, or what one wrote in a group oneself."""

    user: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    group: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    delivered_seq: Annotated[int | None, Field(exclude_if=lambda value: value is None)] = None
    read_seq: Annotated[int | None, Field(exclude_if=lambda value: value is None)] = None
    messages: list[MessageView]


class ExportView(View):
    """Everything of a person."""

    exported_at: Time
    user: ExportedUserView
    groups: list[MembershipView]
    conversations: list[ExportedConversationView]


class AccountEnd(Body):
    """The password, once more: there is no way back."""

    password: Password


class ErasedView(View):
    """What is left of an account that was erased."""

    author: Annotated[
        str,
        Field(
            description="The address that stands in its place.",
            examples=["erased-8d1f0c2a44b1e07d@erased.invalid"],
        ),
    ]
    remains: list[str]


# -- the rest ----------------------------------------------------------------------------------


class FieldProblem(View):
    """One field that was refused."""

    field: str
    message: str


class Problem(View):
    """RFC 9457; ``code`` is the stable word to act on."""

    type: Annotated[str, Field(examples=["about:blank"])] = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblem]


class HealthView(View):
    """How the server is; ``out`` names what does not work, and yet keeps nobody from chatting."""

    status: Annotated[str, Field(examples=["ok"])]
    out: Annotated[list[str], Field(exclude_if=lambda value: not value)] = []
