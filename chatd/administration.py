"""What an administrator may ask and do: the same on a running server and on its store alone.

Operations take and answer what JSON has; `Administration.call` checks and names them. Whoever may
call them is trusted with everything.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, get_type_hints

import msgspec

from chatd.accounts import Accounts
from chatd.addresses import normalize_email, normalize_group
from chatd.copying.reader import Cursor
from chatd.copying.served import Lines, ServedStore, StoreInfo
from chatd.doctor import Doctor, Report
from chatd.erasure import Erased, Erasure
from chatd.errors import Conflict, Invalid, NotFound, UnknownGroup, UnknownUser
from chatd.export import Exports
from chatd.models import (
    Conversation,
    Group,
    GroupCursor,
    Member,
    User,
    group_conversation,
    is_erased,
    now_ms,
    rfc3339,
)
from chatd.retention import remove_messages
from chatd.router import ChatRouter
from chatd.security import IssuedToken, Passwords, Tokens
from chatd.storage.base import Storage

_PAGE: Final = 200
_LONGEST_TOKEN: Final = 10 * 365 * 24 * 60 * 60
"""Seconds, about ten years."""
_RANDOM_BYTES: Final = 15
"""Of a password that chatd makes: 20 characters to read out once."""


class IdPool(Protocol):
    """Where users' ids come from."""

    def take(self) -> str: ...


class UserInfo(msgspec.Struct, frozen=True):
    """An account."""

    id: str
    email: str
    created_at: str
    last_seen_at: str | None
    disabled: bool
    online: bool


class UserDetails(UserInfo, frozen=True):
    """An account, with the groups it is in and how many conversations it has."""

    groups: list[str]
    conversations: int


class NewPassword(msgspec.Struct, frozen=True):
    """An account's new password; ``password`` is told where chatd made it."""

    email: str
    password: str | None


class TokenInfo(msgspec.Struct, frozen=True):
    """A token of a user, for a program."""

    email: str
    token: str
    expires_at: str


class GroupInfo(msgspec.Struct, frozen=True):
    """A group."""

    name: str
    title: str | None
    created_by: str
    created_at: str
    members: int
    messages: int


class MemberInfo(msgspec.Struct, frozen=True):
    """A member of a group, and how far messages were delivered to and read by them."""

    email: str
    joined_at: str
    delivered_seq: int
    read_seq: int


class DeletedGroup(msgspec.Struct, frozen=True):
    """A group that is no more, and how many messages went with it."""

    name: str
    messages: int


class Administration:
    """Accounts and groups, as who runs the server has them."""

    def __init__(
        self,
        *,
        storage: Storage,
        accounts: Accounts,
        erasure: Erasure,
        exports: Exports,
        router: ChatRouter,
        passwords: Passwords,
        tokens: Tokens,
        ids: IdPool,
        is_online: Callable[[str], bool],
    ) -> None:
        self._storage = storage
        self._accounts = accounts
        self._erasure = erasure
        self._exports = exports
        self._router = router
        self._passwords = passwords
        self._tokens = tokens
        self._ids = ids
        self._is_online = is_online
        self._served = ServedStore(storage, on_tokens_revoked=accounts.start)

    async def call(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Do what ``operation`` names; the answer is made of what JSON has.

        Raises `NotFound` for an operation that there is not, `Invalid` for wrong arguments, and
        what the operation itself refuses.
        """
        if operation not in OPERATIONS:
            there_are = ", ".join(OPERATIONS)
            raise NotFound(f"there is no operation {operation[:64]!r}; there are {there_are}")
        method = getattr(self, operation)
        return msgspec.to_builtins(await method(**_checked(method, arguments)))

    # -- users -------------------------------------------------------------------------------

    async def users(self, prefix: str = "") -> list[UserInfo]:
        """All accounts whose address starts like this, by address."""
        found: list[UserInfo] = []
        after = ""
        while page := await self._storage.list_users(prefix=prefix, after=after, limit=_PAGE):
            found += [self._info(user) for user in page if not is_erased(user.email)]
            after = page[-1].email
        return found

    async def user(self, email: str) -> UserDetails:
        """One account."""
        user = await self._user(email)
        groups = await self._storage.group_names_of(user.email)
        positions = await self._storage.positions(user.email)
        info = msgspec.structs.asdict(self._info(user))
        return UserDetails(**info, groups=groups, conversations=len(positions))

    async def add_user(self, email: str, password: str | None = None) -> NewPassword:
        """Make an account, whoever may sign up; without a password with a random one."""
        made = None if password else _random_password()
        address = _address(email)
        if is_erased(address):
            raise Invalid.field("email", "must not lie where the addresses of the erased do")
        user = User(
            id=self._ids.take(),
            email=address,
            password_hash=await self._hash(password or str(made)),
            created_at=now_ms(),
        )
        if not await self._storage.create_user(user):
            raise Conflict(f"there is an account {user.email!r} already")
        return NewPassword(user.email, made)

    async def disable_user(self, email: str) -> UserInfo:
        """Sign an account out everywhere, and let nobody sign in to it."""
        user = await self._user(email)
        if not user.disabled:
            user = await self._accounts.replace(user, lambda stored: stored.locked_hash)
        return self._info(user)

    async def enable_user(self, email: str) -> UserInfo:
        """Let a disabled account sign in again, with the password it had."""
        user = await self._user(email)
        if user.disabled:
            user = await self._accounts.replace(user, lambda stored: stored.unlocked_hash)
        return self._info(user)

    async def reset_password(self, email: str, password: str | None = None) -> NewPassword:
        """Give an account this password, or a random one, and sign it out everywhere."""
        user = await self._user(email)
        made = None if password else _random_password()
        hashed = await self._hash(password or str(made))

        def replaced(stored: User) -> str:
            changed = msgspec.structs.replace(stored, password_hash=hashed)
            return changed.locked_hash if stored.disabled else hashed

        await self._accounts.replace(user, replaced)
        return NewPassword(user.email, made)

    async def sign_out_user(self, email: str) -> UserInfo:
        """Sign an account out everywhere."""
        user = await self._user(email)
        return self._info(await self._accounts.replace(user, lambda stored: stored.password_hash))

    async def issue_token(self, email: str, seconds: int | None = None) -> TokenInfo:
        """A token for a program that acts as this user, good for ``seconds``."""
        user = await self._user(email)
        if user.disabled:
            raise Conflict(f"the account {user.email!r} is disabled")
        if seconds is not None and not 1 <= seconds <= _LONGEST_TOKEN:
            raise Invalid.field("seconds", f"must be 1 to {_LONGEST_TOKEN}")
        issued: IssuedToken = self._tokens.issue(user, seconds=seconds)
        return TokenInfo(user.email, issued.token, rfc3339(issued.claims.expires_at))

    async def export_user(self, email: str) -> Any:
        """Everything of a person, as `chatd.export` has it."""
        user = await self._user(email)
        return msgspec.json.decode("".join([piece async for piece in self._exports.of(user)]))

    async def erase_user(self, email: str) -> Erased:
        """Erase a person: an author who says nothing stands for them in what they wrote."""
        return await self._erasure.erase(await self._any_user(email))

    async def delete_user(self, email: str) -> Erased:
        """Erase a person, and the texts they wrote."""
        return await self._erasure.erase(await self._any_user(email), blank=True)

    async def _user(self, email: str) -> User:
        user = await self._any_user(email)
        if user.author is not None:
            raise Conflict(f"the account {user.email!r} is being erased")
        return user

    async def _any_user(self, email: str) -> User:
        address = _address(email)
        user = None if is_erased(address) else await self._storage.user_by_email(address)
        if user is None:
            raise UnknownUser(f"there is no account {email[:254]!r}")
        return user

    async def _hash(self, password: str) -> str:
        try:
            return await self._passwords.hash(password)
        except ValueError as error:
            raise Invalid.field("password", f"can't be one: {error}") from None

    def _info(self, user: User) -> UserInfo:
        seen = user.last_seen_at
        return UserInfo(
            id=user.id,
            email=user.email,
            created_at=rfc3339(user.created_at),
            last_seen_at=None if seen is None else rfc3339(seen),
            disabled=user.disabled,
            online=self._is_online(user.email),
        )

    # -- groups ------------------------------------------------------------------------------

    async def groups(self, prefix: str = "") -> list[GroupInfo]:
        """All groups whose name starts like this, by name."""
        found: list[GroupInfo] = []
        after: GroupCursor | None = None
        while page := await self._storage.list_groups(prefix=prefix, after=after, limit=_PAGE):
            found += map(_group_info, page)
            after = GroupCursor(page[-1].name)
        return found

    async def group(self, name: str) -> GroupInfo:
        """One group."""
        return _group_info(await self._group(name))

    async def members(self, group: str) -> list[MemberInfo]:
        """Everybody who is in a group, by address."""
        name = (await self._group(group)).name
        found: list[MemberInfo] = []
        after = ""
        while page := await self._storage.members(name, after=after, limit=_PAGE):
            found += map(_member_info, page)
            after = page[-1].email
        return found

    async def delete_group(self, name: str) -> DeletedGroup:
        """Remove a group, who is in it, and what was written in it."""
        name = (await self._group(name)).name
        removed = await self._remove_messages(group_conversation(name))
        await self._router.delete_group(name)
        # And what was written meanwhile.
        removed += await self._remove_messages(group_conversation(name))
        return DeletedGroup(name, removed)

    async def _remove_messages(self, conversation: Conversation) -> int:
        """How many; not the one whose text is gone already, and that has kept its place."""
        first = await self._storage.history(conversation, after_seq=0, limit=1)
        removed = await remove_messages(self._storage, conversation)
        return removed - 1 if removed and first and not first[0].text else removed

    # -- the store ---------------------------------------------------------------------------

    async def examine(self) -> Report:
        """Whether the store is sound; takes as long as reading all of it."""
        return await Doctor(self._storage, self._erasure.is_under_way).examine()

    async def store(self) -> StoreInfo:
        """What the server's store is, and whether there is nobody and nothing in it."""
        return await self._served.info()

    async def copy_total(self) -> int:
        """How many steps it is through everything."""
        return await self._served.total()

    async def copy_page(self, at: Cursor) -> Lines:
        """The part of everything that begins there."""
        return await self._served.page(at)

    async def copy_load(self, lines: list[str]) -> None:
        """Take over what another server's store has; into a store in memory without users only."""
        await self._served.load(lines)

    async def _group(self, name: str) -> Group:
        try:
            group = await self._storage.group(normalize_group(name))
        except ValueError:
            group = None
        if group is None:
            raise UnknownGroup(f"there is no group {name[:64]!r}")
        return group


OPERATIONS: Final = (
    "users",
    "user",
    "add_user",
    "disable_user",
    "enable_user",
    "reset_password",
    "sign_out_user",
    "issue_token",
    "export_user",
    "erase_user",
    "delete_user",
    "groups",
    "group",
    "members",
    "delete_group",
    "examine",
    "store",
    "copy_total",
    "copy_page",
    "copy_load",
)


def _checked(method: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the method's annotations have them; `Invalid` names what is wrong."""
    hints = get_type_hints(method)
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise Invalid.field(name, "is missing")
    checked = {}
    for name, value in arguments.items():
        if name not in hints:
            raise Invalid.field(name[:64], f"is no argument of {method.__name__}")
        try:
            checked[name] = msgspec.convert(value, hints[name])
        except msgspec.ValidationError as error:
            raise Invalid.field(name, f"can't be that: {error}") from None
    return checked


def _address(email: str) -> str:
    try:
        return normalize_email(email)
    except ValueError as error:
        raise Invalid.field("email", f"is no e-mail address: {error}") from None


def _random_password() -> str:
    return secrets.token_urlsafe(_RANDOM_BYTES)


def _group_info(group: Group) -> GroupInfo:
    return GroupInfo(
        name=group.name,
        title=group.title,
        created_by=group.created_by,
        created_at=rfc3339(group.created_at),
        members=group.members,
        messages=group.messages,
    )


def _member_info(member: Member) -> MemberInfo:
    return MemberInfo(
        email=member.email,
        joined_at=rfc3339(member.joined_at),
        delivered_seq=member.delivered_seq,
        read_seq=member.read_seq,
    )
