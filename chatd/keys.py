"""The keys that tokens are signed with: a JWK Set (RFC 7517) in a file of the owner's alone.

The first key signs, every one verifies. To rotate, put a new key in front and restart; take the
old one out when the last token it signed has expired.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

KEY_BYTES: Final = 32
"""RFC 7518 section 3.2: a key for HS256 is at least as long as the hash."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_LEAST_DIFFERENT_BYTES: Final = 12
_FINGERPRINT: Final = b"chatd key fingerprint"
_PUBLISHED: Final = (
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
)
"""The example in RFC 7515 appendix A.1 and RFC 7517 appendix A.3."""


class KeyFileRefused(Exception):
    """A key file that can't be used; the sentence names it and what to do."""


class Key(msgspec.Struct, frozen=True, rename={"key_id": "kid"}):
    """One symmetric key as a JWK. Other members are ignored (RFC 7517 section 4)."""

    kty: Literal["oct"]
    key_id: Annotated[str, msgspec.Meta(min_length=1)]
    k: str
    alg: Literal["HS256"] = "HS256"

    def __repr__(self) -> str:
        return f"Key({self.key_id!r})"

    @classmethod
    def new(cls) -> Key:
        """A random one."""
        k = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode()
        return cls(kty="oct", key_id=secrets.token_hex(8), k=k)

    @property
    def secret(self) -> bytes:
        """The key's bytes; ValueError where ``k`` is not base64url without padding."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.k):
            raise ValueError("not base64url")
        return base64.urlsafe_b64decode(self.k + "=" * (-len(self.k) % 4))


class KeySet(msgspec.Struct, frozen=True):
    """What a key file holds."""

    keys: tuple[Key, ...]


class KeyRing:
    """The server's keys; all have been checked by `open`."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.signing_id = keys[0].key_id
        self._secrets = {key.key_id: key.secret for key in keys}

    @classmethod
    def open(cls, path: Path) -> KeyRing:
        """Read the keys in this file, making it with one new key where there is none.

        Servers that start at the same time get the same key. `KeyFileRefused` where the file
        can't be read or made, may be read by others than its owner, or holds a weak key.
        """
        try:
            if not path.exists():
                _make(path)
            content = _read(path)
        except OSError as error:
            raise KeyFileRefused(
                f"The key file {path} can't be read or made ({error.strerror}):"
                " set auth.key_file to a place where chatd may write."
            ) from None
        return cls(_parse(content, path))

    @property
    def signing(self) -> bytes:
        """The key that signs."""
        return self._secrets[self.signing_id]

    def fingerprints(self) -> list[str]:
        """Words that tell keys apart and give nothing away; that of the one that signs first."""
        ids = sorted(self._secrets, key=lambda key_id: key_id != self.signing_id)
        return [
            f"{key_id} {hmac.digest(self._secrets[key_id], _FINGERPRINT, 'sha256').hex()[:16]}"
            for key_id in ids
        ]

    def find(self, key_id: object) -> bytes | None:
        """The key of this ``kid``; None where there is none."""
        return self._secrets.get(key_id) if isinstance(key_id, str) else None


def _make(path: Path) -> None:
    # Written aside with 0600 (mkstemp's promise) and linked when whole: the name never stands
    # for a half-written file or wider rights, and of several who link the first one wins.
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(KeySet((Key.new(),)))) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(aside)
    except FileExistsError:
        pass
    finally:
        Path(aside).unlink()


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            raise KeyFileRefused(
                f"The key file {path} is open to others than its owner: chmod 600 it,"
                " and replace the key if anybody may have read it."
            )
        return file.read()


def _parse(content: bytes, path: Path) -> Sequence[Key]:
    def refused(what: str) -> KeyFileRefused:
        return KeyFileRefused(
            f"The key file {path} {what}: mend it, or move it away to have a new one made."
        )

    try:
        keys = msgspec.json.decode(content, type=KeySet).keys
    except msgspec.MsgspecError as error:
        raise refused(f"is not a JWK Set of HS256 keys ({error})") from None
    if not keys:
        raise refused("holds no key")
    if len({key.key_id for key in keys}) < len(keys):
        raise refused("has one kid for two keys")
    for key in keys:
        if (flaw := _flaw(key)) is not None:
            raise refused(f"has a key that {flaw} (kid {key.key_id!r})")
    return keys


def _flaw(key: Key) -> str | None:
    """What is wrong with a key. No random key is ever mistaken for a weak one."""
    try:
        secret = key.secret
    except ValueError:
        return "is not base64url without padding"
    if len(secret) < KEY_BYTES:
        return f"has fewer than {KEY_BYTES} bytes"
    if key.k == _PUBLISHED:
        return "is published as an example"
    if len(set(secret)) < _LEAST_DIFFERENT_BYTES or _is_regular(secret):
        return "is a pattern, where random bytes are needed"
    if secret.isascii():
        return "is a text, where random bytes are needed"
    return None


def _is_regular(secret: bytes) -> bool:
    """Whether it repeats a shorter part of itself, or goes in equal steps."""
    repeats = any(secret[period:] == secret[:-period] for period in range(1, len(secret) // 2 + 1))
    steps = {(after - before) % 256 for before, after in itertools.pairwise(secret)}
    return repeats or len(steps) == 1
