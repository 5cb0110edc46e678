"""Sign-ins, as many at once as a test likes: each has a connection of its own."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from tests.chat import PASSWORD, Answer, Chat
from tests.raw import send_raw

_PATIENCE = 120
"""Seconds; a busy machine has its time with a hundred hashes."""


async def sign_in(chat: Chat, email: str, password: str = PASSWORD) -> Answer:
    """Sign in, and up where the address is new: what that is answered."""
    body = json.dumps({"email": email, "password": password}).encode()
    request = f"POST /v1/auth/sign-in HTTP/1.1\nHost: {urlsplit(chat.url).netloc}\n"
    request += f"Content-Type: application/json\nContent-Length: {len(body)}"
    return await send_raw(chat.url, request, body, patience=_PATIENCE)
