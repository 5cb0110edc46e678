"""Passwords and tokens. Nothing else imports passlib, zxcvbn and jwt."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import threading
import unicodedata
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import jwt
import msgspec
from passlib.context import CryptContext

from chatd.errors import Unauthenticated, Unavailable
from chatd.keys import KeyRing
from chatd.models import User, now_ms

T = TypeVar("T")

PASSWORD_CHARACTERS: Final = (8, 128)

_COMMON: Final = 3000

AUDIENCE: Final = "chatd"
ALGORITHM: Final = "HS256"
LEEWAY_SECONDS: Final = 60
"""How far the clock that issued a token may be ahead of ours."""

TOKEN_CHARACTERS: Final = 4096

_HEADER: Final = {"alg", "typ", "kid"}
_SECONDS_PER_HASH: Final = 0.05
_NICENESS: Final = 10


def check_password(text: str) -> None:
    """ValueError, with a sentence for people, where this can't be a password.

    Counted in the form that is hashed, so that one password is as long however it is typed.
    """
    shortest, longest = PASSWORD_CHARACTERS
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("A password holds neither NUL nor half a surrogate pair.")
    if not shortest <= len(_normal_form(text)) <= longest:
        raise ValueError(f"A password has {shortest} to {longest} characters.")


def _normal_form(password: str) -> str:
    # NFKC as NIST SP 800-63B advises (RFC 8265 takes NFC): keyboards differ in how they make é.
    return unicodedata.normalize("NFKC", password)


def _step_back() -> None:
    """Let the event loop's thread go first wherever both want the same core."""
    # On Linux each thread has a niceness of its own; elsewhere this would be the process's.
    if sys.platform == "linux":
        # Where a sandbox forbids it, the thread is as good as any.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _common_passwords() -> frozenset[str]:
    """The most common of those that are long enough, in lower case."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415

    shortest, _ = PASSWORD_CHARACTERS
    long_enough = (one for one in FREQUENCY_LISTS["passwords"] if len(one) >= shortest)
    return frozenset(itertools.islice(long_enough, _COMMON))


class Verified(NamedTuple):
    """Whether a password was right, and if so, whether its hash is outdated."""

    ok: bool
    rehash: bool


class Passwords:
    """argon2id hashes (RFC 9106), made on one thread so that the event loop stays smooth.

    The parameters are OWASP's (19 MiB, two passes, one lane). At most ``queue_limit`` wait for
    the one being worked on; more are refused as `Unavailable`.
    """

    def __init__(self, queue_limit: int = 100) -> None:
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=19_456,
            argon2__time_cost=2,
            argon2__parallelism=1,
        )
        self._common: frozenset[str] | None = None
        self._queue_limit = queue_limit
        self._pending = 0
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="passwords", initializer=_step_back
        )

    async def hash(self, password: str) -> str:
        """The hash to store; ValueError as `check_password`."""
        check_password(password)
        hashed = await self._run(lambda: self._context.hash(_normal_form(password)))
        return str(hashed)

    async def is_guessable(self, password: str, email: str) -> bool:
        """Whether those who guess try this first: a common password, or the address itself."""
        own, address = _normal_form(password).casefold(), email.casefold()
        if own in (address, address.partition("@")[0]):
            return True
        # The list takes a while to load.
        return await self._run(lambda: self._is_common(own))

    def _is_common(self, password: str) -> bool:
        if self._common is None:
            self._common = _common_passwords()
        return password in self._common

    async def verify(self, password: str, password_hash: str | None) -> Verified:
        """Whether the password is the one that was hashed.

        None for the hash of an account that does not exist: never right, and as slow.
        """
        try:
            check_password(password)
        except ValueError:
            return Verified(ok=False, rehash=False)
        return await self._run(lambda: self._verify(_normal_form(password), password_hash))

    def close(self) -> None:
        """End the thread. Who still waits in the queue is cancelled."""
        self._thread.shutdown(cancel_futures=True)

    def _verify(self, password: str, password_hash: str | None) -> Verified:
        if not self._context.verify(password, password_hash):
            return Verified(ok=False, rehash=False)
        return Verified(ok=True, rehash=bool(self._context.needs_update(password_hash)))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending > self._queue_limit:
            raise Unavailable(
                "Too many are signing in at the moment: try again shortly.",
                retry_after=max(1.0, self._pending * _SECONDS_PER_HASH),
            )
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._pending -= 1


class Claims(msgspec.Struct, frozen=True):
    """What a token says: times in milliseconds since the epoch, in whole seconds."""

    subject: str
    token_id: str
    generation: int
    issued_at: int
    expires_at: int


class IssuedToken(NamedTuple):
    """A new token and what it says."""

    token: str
    claims: Claims


_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Second = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
"""Up to the end of the year 9999: RFC 3339 has no later one to show."""


class _Payload(msgspec.Struct, frozen=True):
    """The claims set (RFC 7519 section 4.1; times in seconds), strictly typed."""

    iss: _Name
    aud: _Name
    sub: _Name
    jti: _Name
    gen: _Count
    iat: _Second
    nbf: _Second
    exp: _Second

    def claims(self) -> Claims:
        return Claims(
            subject=self.sub,
            token_id=self.jti,
            generation=self.gen,
            issued_at=self.iat * 1000,
            expires_at=self.exp * 1000,
        )


class Tokens:
    """Issues and verifies JSON Web Tokens, after RFC 8725: one algorithm, whatever they say."""

    def __init__(self, keys: KeyRing, issuer: str, seconds: int) -> None:
        """``seconds``: how long a token is good."""
        self._keys = keys
        self._issuer = issuer
        self._seconds = seconds

    def use(self, keys: KeyRing) -> None:
        """Sign and verify with these from now on."""
        self._keys = keys

    def fingerprints(self) -> list[str]:
        """See `KeyRing.fingerprints`."""
        return self._keys.fingerprints()

    def issue(
        self, user: User, now: int | None = None, *, seconds: int | None = None
    ) -> IssuedToken:
        """A new token for this user; ``now`` in milliseconds since the epoch.

        It is good for ``seconds``, or as long as all are.
        """
        issued_at = (now_ms() if now is None else now) // 1000
        payload = _Payload(
            iss=self._issuer,
            aud=AUDIENCE,
            sub=user.id,
            jti=str(uuid.uuid4()),
            gen=user.generation,
            iat=issued_at,
            nbf=issued_at,
            exp=issued_at + (seconds or self._seconds),
        )
        token = jwt.encode(
            msgspec.structs.asdict(payload),
            self._keys.signing,
            ALGORITHM,
            headers={"kid": self._keys.signing_id},
        )
        return IssuedToken(token, payload.claims())

    def verify(self, token: str) -> Claims:
        """What a good token says; `Unauthenticated` for any other, never showing it.

        It may come from a clock that is up to `LEEWAY_SECONDS` ahead, but it ends on the second:
        what a user was told of its life holds. Whether the token was revoked, and whether its
        generation is still the user's, is for the caller to see.
        """
        try:
            claims = msgspec.convert(self._decode(token), _Payload).claims()
            if claims.expires_at <= now_ms():
                raise jwt.ExpiredSignatureError
            return claims
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired: sign in again.") from None
        except jwt.ImmatureSignatureError:
            raise Unauthenticated(
                "The token is not valid yet: the clock of this server or of the one that issued"
                " it is wrong."
            ) from None
        except (jwt.PyJWTError, msgspec.ValidationError):
            raise Unauthenticated("This is not a token of this server: sign in.") from None

    def _decode(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_CHARACTERS or not token.isascii():
            raise jwt.InvalidTokenError
        header = jwt.get_unverified_header(token)
        secret = self._keys.find(header.get("kid"))
        # No header but our own three: that leaves out jku, jwk, x5u, crit and all that may come.
        if set(header) != _HEADER or header["typ"] != "JWT" or secret is None:
            raise jwt.InvalidTokenError
        return jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": list(_Payload.__struct_fields__), "strict_aud": True},
        )
