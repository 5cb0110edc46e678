"""Tokens made by hand, with the key of the very server that is to refuse them."""

from __future__ import annotations

import base64
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOKEN_SECONDS = 3600

Json = dict[str, Any]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(head: object, claims: object, key: bytes, digest: str = "sha256") -> str:
    """A token of these parts, whatever they are; what is None in them is left out."""
    signed = ".".join(base64url(json.dumps(_present(part)).encode()) for part in (head, claims))
    return f"{signed}.{base64url(hmac.digest(key, signed.encode(), digest))}"


def _present(part: object) -> object:
    return {k: v for k, v in part.items() if v is not None} if isinstance(part, dict) else part


class Forger:
    """Has read the server's key file, and knows one of its users."""

    def __init__(self, data_dir: Path, user_id: str) -> None:
        document = json.loads((data_dir / "keys.json").read_text())
        first = document["keys"][0]
        self.key = base64.urlsafe_b64decode(first["k"] + "==")
        self.head: Json = {"alg": "HS256", "typ": "JWT", "kid": first["kid"]}
        self._user_id = user_id

    def claims(self, **other: object) -> Json:
        """What a good token says now, but for ``other``."""
        now = int(time.time())
        return {
            "iss": "chatd",
            "aud": "chatd",
            "sub": self._user_id,
            "jti": str(uuid.uuid4()),
            "gen": 0,
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_SECONDS,
            **other,
        }

    def token(self, head: Mapping[str, object] | None = None, /, **claims: Any) -> str:
        """Signed with the server's key, and good but for these headers and claims."""
        return sign({**self.head, **(head or {})}, self.claims(**claims), self.key)
