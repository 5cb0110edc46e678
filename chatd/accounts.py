"""Accounts: signing in and up, whose a token is, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import msgspec

from chatd.errors import (
    BadCredentials,
    RateLimited,
    SignupClosed,
    Unauthenticated,
    Unavailable,
)
from chatd.models import User, now_ms
from chatd.security import Claims, IssuedToken, Passwords, Tokens
from chatd.storage.base import Storage

_CLOCK_AHEAD_MS: Final = 24 * 60 * 60 * 1000
"""As far as the clock may be ahead at a start without a token that was revoked being good again."""


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


OnEnd = Callable[[str, Callable[[str], bool]], None]
"""Told of a user and of which of the user's token ids are good no more."""


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
    ) -> None:
        """``sign_ins`` is keyed by the client's address, ``failures`` by the account."""
        self._storage = storage
        self._passwords = passwords
        self._tokens = tokens
        self._ids = ids
        self._signup = signup
        self._sign_ins = sign_ins
        self._failures = failures
        self._on_end = on_end
        self._changing = asyncio.Lock()
        self._revoked: set[str] = set()
        self._generations: dict[str, int] = {}

    async def start(self) -> None:
        """Read which tokens are revoked.

        Those that have just ended too: if the clock is ahead, and is set right, they begin anew.
        """
        self._revoked = set(await self._storage.revoked_tokens(now_ms() - _CLOCK_AHEAD_MS))

    async def sign_in(self, email: str, password: str, address: str) -> SignIn:
        """Sign in, or sign up where the e-mail address is new.

        Raises:
            BadCredentials: the password is wrong.
            SignupClosed: the address is new, and may not make an account.
            RateLimited: too many sign-ins from this address, or failures for this account.
            Unavailable: too many are signing in at this moment.
        """
        _charge(self._sign_ins, address, "too many sign-ins from this network address")
        user = await self._storage.user_by_email(email)
        if user is None:
            created = await self._sign_up(email, password)
            if created is not None:
                return SignIn(created, self._tokens.issue(created), created=True)
            # Somebody else signed up with the address just now.
            user = await self._storage.user_by_email(email)
        if user is None:
            raise _bad_credentials()
        user = await self._check(user, password)
        return SignIn(user, self._tokens.issue(user), created=False)

    async def _sign_up(self, email: str, password: str) -> User | None:
        if not self._signup.allows(email):
            raise SignupClosed("this server makes no new account for this e-mail address")
        user = User(
            id=self._ids.take(),
            email=email,
            password_hash=await self._passwords.hash(password),
            created_at=now_ms(),
        )
        return user if await self._storage.create_user(user) else None

    async def _check(self, user: User, password: str) -> User:
        """The user, if this is the password; its hash is renewed where it has aged."""
        _charge(self._failures, user.email, "too many wrong passwords for this account")
        try:
            verified = await self._passwords.verify(password, user.password_hash)
        except Unavailable:
            self._failures.give_back(user.email)
            raise
        if not verified.ok:
            raise _bad_credentials()
        self._failures.give_back(user.email)
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

    async def authenticate(self, token: str) -> Session:
        """Whose token this is; `Unauthenticated` where it is none, expired or revoked."""
        claims = self._tokens.verify(token)
        user = await self._storage.user_by_id(claims.subject)
        if user is None or user.generation != claims.generation or self.is_ended(claims):
            raise Unauthenticated("this token is not good any more: sign in again")
        return Session(user, claims)

    def is_ended(self, claims: Claims) -> bool:
        """Whether the token was revoked here, by signing out or by a change of password."""
        generation = self._generations.get(claims.subject, claims.generation)
        return claims.token_id in self._revoked or claims.generation != generation

    def renew(self, session: Session) -> IssuedToken:
        """A fresh token for the same user."""
        return self._tokens.issue(session.user)

    async def sign_out(self, session: Session) -> None:
        """Revoke the session's token, and end the sockets that live by it."""
        token_id = session.claims.token_id
        await self._storage.revoke_token(token_id, session.claims.expires_at)
        self._revoked.add(token_id)
        self._on_end(session.user.email, lambda other: other == token_id)

    async def change_password(self, session: Session, current: str, new: str) -> SignIn:
        """Replace the password, and revoke every token of the user but the one returned."""
        user = await self._check(session.user, current)
        changed = await self._set_password(user, new, user.generation + 1)
        if changed is None:
            raise _bad_credentials()
        self._generations[changed.id] = changed.generation
        token = self._tokens.issue(changed)
        self._on_end(changed.email, lambda other: other != token.claims.token_id)
        return SignIn(changed, token, created=False)


def _bad_credentials() -> BadCredentials:
    return BadCredentials("the e-mail address or the password is wrong")


def _charge(bucket: Buckets, key: str, why: str) -> None:
    wait = bucket.take(key, asyncio.get_running_loop().time())
    if wait:
        raise RateLimited(f"{why}; try again later", wait)
