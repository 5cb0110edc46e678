"""Accounts: signing in and up, whose a token is, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from chatd.errors import (
    BadCredentials,
    Conflict,
    FieldError,
    Invalid,
    RateLimited,
    SignupClosed,
    Unauthenticated,
    Unavailable,
    UnknownUser,
)
from chatd.models import Ended, User, is_erased, now_ms
from chatd.neighbours import Neighbours
from chatd.news import SessionsEndedNews
from chatd.security import Claims, IssuedToken, Passwords, Tokens
from chatd.storage.base import Storage

_CLOCK_AHEAD_MS: Final = 24 * 60 * 60 * 1000
"""As far as the clock may be ahead at a start without a token that was revoked being good again."""


_MOST_FAMILIAR: Final = 100_000
_PAGE: Final = 500
_GUESSABLE: Final = "This password is among the first that are guessed: choose another."


class Buckets(Protocol):
    """How often something may happen for a key."""

    def take(self, key: str, now: float) -> float:
        """0.0 where it may, else the seconds until then."""

    def give_back(self, key: str) -> None:
        """Undo one `take`."""


class IdPool(Protocol):
    """Where users' ids come from."""

    def take(self) -> str: ...


class SignupPolicy(msgspec.Struct, frozen=True):
    """Who may make an account: anyone, nobody, or addresses of these domains."""

    open: bool
    domains: frozenset[str] = frozenset()

    def allows(self, email: str) -> bool:
        return self.open or email.rpartition("@")[2] in self.domains


class Session(msgspec.Struct, frozen=True):
    """A request's or a socket's good token, and whose it is."""

    user: User
    claims: Claims


class SignIn(NamedTuple):
    """What a sign-in came to; ``created`` where it made the account."""

    user: User
    token: IssuedToken
    created: bool


class _Familiar:
    """From where each account has been signed in to, since the start; the latest are kept."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, email: str, place: str) -> None:
        self._pairs[email, place] = None
        self._pairs.move_to_end((email, place))
        if len(self._pairs) > _MOST_FAMILIAR:
            self._pairs.popitem(last=False)

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return pair in self._pairs


OnEnd = Callable[[Ended], None]
"""Told of tokens that are good no more, to end what lives by them."""


class Accounts:
    """Users as those who sign in."""

    def __init__(
        self,
        *,
        storage: Storage,
        passwords: Passwords,
        tokens: Tokens,
        ids: IdPool,
        signup: SignupPolicy,
        sign_ins: Buckets,
        failures: Buckets,
        on_end: OnEnd,
        neighbours: Neighbours,
    ) -> None:
        """``sign_ins`` is keyed by the place that signs in, ``failures`` by the account: with the
        place behind it where that has signed in to the account before, so that nobody can lock
        others out by guessing."""
        self._storage = storage
        self._passwords = passwords
        self._tokens = tokens
        self._ids = ids
        self._signup = signup
        self._sign_ins = sign_ins
        self._failures = failures
        self._on_end = on_end
        self._neighbours = neighbours
        self._changing = asyncio.Lock()
        self._familiar = _Familiar()
        self._revoked: dict[str, int] = {}
        self._revoked_before_start: Collection[str] = ()
        self._generations: dict[str, int] = {}

    async def start(self) -> None:
        """Read which tokens are revoked.

        Those that have just ended too: if the clock is ahead, and is set right, they begin anew.
        """
        since = now_ms() - _CLOCK_AHEAD_MS
        revoked = await self._storage.revoked_tokens(since)
        self._revoked_before_start = frozenset(token.id for token in revoked)

    async def sign_in(self, email: str, password: str, place: str) -> SignIn:
        """Sign in, or sign up where the e-mail address is new.

        ``place`` is where it comes from in the network, as `chatd.networks.place_of` has it.

        Raises:
            BadCredentials: the password is wrong.
            SignupClosed: the address is new, and may not make an account.
            Invalid: the address is new, and the password one that is easily guessed.
            RateLimited: too many sign-ins from this place, or failures for this account.
            Unavailable: too many are signing in at this moment.
        """
        _charge(self._sign_ins, place, "too many sign-ins from this network address")
        user = await self._storage.user_by_email(email)
        if user is None:
            created = await self._sign_up(email, password)
            if created is not None:
                self._familiar.add(email, place)
                return SignIn(created, self._tokens.issue(created), created=True)
            # Somebody else signed up with the address just now.
            user = await self._storage.user_by_email(email)
        if user is None:
            raise _bad_credentials()
        known = (email, place) in self._familiar
        user = await self._check(user, password, f"{email} {place}" if known else email)
        self._familiar.add(email, place)
        return SignIn(user, self._tokens.issue(user), created=False)

    async def _sign_up(self, email: str, password: str) -> User | None:
        if is_erased(email) or not self._signup.allows(email):
            raise SignupClosed("this server makes no new account for this e-mail address")
        await self._refuse_guessable(email, password, "password")
        user = User(
            id=self._ids.take(),
            email=email,
            password_hash=await self._passwords.hash(password),
            created_at=now_ms(),
        )
        return user if await self._storage.create_user(user) else None

    async def _refuse_guessable(self, email: str, password: str, field: str) -> None:
        if await self._passwords.is_guessable(password, email):
            raise Invalid(_GUESSABLE, (FieldError(field, _GUESSABLE),))

    async def _check(self, user: User, password: str, guesser: str) -> User:
        """The user, if this is the password; its hash is renewed where it has aged.

        ``guesser`` is whose wrong passwords are counted together.
        """
        _charge(self._failures, guesser, "too many wrong passwords for this account")
        try:
            known = None if user.disabled else user.password_hash
            verified = await self._passwords.verify(password, known)
        except Unavailable:
            self._failures.give_back(guesser)
            raise
        if not verified.ok:
            raise _bad_credentials()
        self._failures.give_back(guesser)
        if verified.rehash:
            with contextlib.suppress(Unavailable):
                return await self._set_password(user, password, user.generation) or user
        return user

    async def _set_password(self, user: User, password: str, generation: int) -> User | None:
        """The user with this password; None, changing nothing, where it was changed meanwhile."""
        changed = msgspec.structs.replace(
            user, password_hash=await self._passwords.hash(password), generation=generation
        )
        async with self._changing:
            stored = await self._storage.user_by_id(user.id)
            if stored is None or stored.generation != user.generation:
                return None
            await self._storage.set_password(user.email, changed.password_hash, generation)
        return changed

    async def replace(self, user: User, password_hash: Callable[[User], str]) -> User:
        """Give an account another hash, and end every token and every socket of it.

        ``password_hash`` makes it of the user as they are stored at that moment. Raises
        `UnknownUser` where the account is gone, and `Conflict` where it is being erased.
        """
        async with self._changing:
            stored = await self._storage.user_by_id(user.id)
            if stored is None:
                raise UnknownUser(f"there is no account {user.email!r}")
            if stored.author is not None:
                raise Conflict(f"the account {user.email!r} is being erased")
            changed = msgspec.structs.replace(
                stored, password_hash=password_hash(stored), generation=stored.generation + 1
            )
            await self._storage.set_password(
                changed.email, changed.password_hash, changed.generation
            )
        self._end_all(changed)
        return changed

    def _end_all(self, user: User) -> None:
        """End what lives by tokens of an earlier generation, on every server."""
        self._end(Ended(user.email, user.id, generation=user.generation))

    def _end(self, ended: Ended) -> None:
        self.hear(ended)
        self._neighbours.tell(SessionsEndedNews(ended))

    def hear(self, ended: Ended) -> None:
        """Tokens are good no more, by what was done here or elsewhere."""
        if ended.token_id is not None:
            self._forget_expired()
            self._revoked[ended.token_id] = ended.expires_at
        elif ended.generation is not None:
            # What others tell may come late.
            known = self._generations.get(ended.user_id, 0)
            self._generations[ended.user_id] = max(ended.generation, known)
        self._on_end(ended)

    async def catch_up(self, living: Callable[[], Mapping[str, str]]) -> None:
        """End what lives by tokens that are good no more, as the storage has it: others may have
        revoked them. ``living``: whose each token is that anything lives by, by its id."""
        found = await self._storage.revoked_tokens(now_ms())
        # What began to live while that was read, too.
        tokens = living()
        self._forget_expired()
        for revoked in found:
            self._revoked.setdefault(revoked.id, revoked.expires_at)
            if revoked.id in tokens:
                self._on_end(Ended(tokens[revoked.id], "", revoked.id, revoked.expires_at))
        emails = sorted(set(tokens.values()))
        for start in range(0, len(emails), _PAGE):
            await self._catch_up_with(emails[start : start + _PAGE])

    async def _catch_up_with(self, emails: Sequence[str]) -> None:
        users = {user.email: user for user in await self._storage.users_by_email(emails)}
        for email in emails:
            user = users.get(email)
            if user is None:
                self._on_end(Ended(email, "", others=True))
            else:
                self._on_end(Ended(email, user.id, generation=user.generation, others=True))

    async def authenticate(self, token: str) -> Session:
        """Whose token this is; `Unauthenticated` where it is none, expired or revoked."""
        claims = self._tokens.verify(token)
        user = await self._storage.user_by_id(claims.subject)
        if user is None or user.generation != claims.generation or self.is_ended(claims):
            raise Unauthenticated("this token is not good any more: sign in again")
        return Session(user, claims)

    def is_ended(self, claims: Claims) -> bool:
        """Whether the token was revoked here, by signing out or by a change of password."""
        token_id = claims.token_id
        return (
            token_id in self._revoked
            or token_id in self._revoked_before_start
            or claims.generation < self._generations.get(claims.subject, 0)
        )

    def renew(self, session: Session) -> IssuedToken:
        """A fresh token for the same user."""
        return self._tokens.issue(session.user)

    async def sign_out(self, session: Session) -> None:
        """Revoke the session's token, and end the sockets that live by it."""
        token_id = session.claims.token_id
        await self._storage.revoke_token(token_id, session.claims.expires_at)
        user = session.user
        self._end(Ended(user.email, user.id, token_id, session.claims.expires_at))

    def _forget_expired(self) -> None:
        """They are in the order of being revoked; what was good for longer goes a little later."""
        long_ago = now_ms() - _CLOCK_AHEAD_MS
        while self._revoked:
            token_id, expires_at = next(iter(self._revoked.items()))
            if expires_at > long_ago:
                return
            del self._revoked[token_id]

    async def confirm(self, session: Session, password: str) -> User:
        """The session's user, if this is the password: `BadCredentials` or `RateLimited` else."""
        return await self._check(session.user, password, f"{session.user.email} signed in")

    async def change_password(self, session: Session, current: str, new: str) -> SignIn:
        """Replace the password, and revoke every token of the user but the one returned."""
        user = await self.confirm(session, current)
        await self._refuse_guessable(user.email, new, "new")
        changed = await self._set_password(user, new, user.generation + 1)
        if changed is None:
            raise _bad_credentials()
        self._end_all(changed)
        return SignIn(changed, self._tokens.issue(changed), created=False)


def _bad_credentials() -> BadCredentials:
    return BadCredentials("the e-mail address or the password is wrong")


def _charge(bucket: Buckets, key: str, why: str) -> None:
    wait = bucket.take(key, asyncio.get_running_loop().time())
    if wait:
        raise RateLimited(f"{why}; try again later", wait)
