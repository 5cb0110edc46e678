#!/usr/bin/env python3
"""Whether a chatd that was just put in place works: sign in, send a message, find it again.

    SMOKE_PASSWORD=… smoke.py https://chat.example.org

It signs in as SMOKE_EMAIL, smoke@example.org where that is not set, an account that the first run
makes unless sign-up is closed. Nothing but the standard library, so that it runs anywhere.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

PATIENCE = 60
"""Seconds until a new server must be ready."""


def main() -> None:
    url = sys.argv[1].rstrip("/")
    wait_until_ready(url)
    email = os.environ.get("SMOKE_EMAIL", "smoke@example.org")
    login = {"email": email, "password": os.environ["SMOKE_PASSWORD"]}
    token = call(url, "POST", "/v1/auth/sign-in", login)["token"]
    text = f"smoke {uuid.uuid4()}"
    path = f"/v1/users/{email}/messages"
    sent = call(url, "POST", path, {"text": text, "client_id": text}, token)
    found = call(url, "GET", f"{path}?after_seq={sent['seq'] - 1}&limit=1", None, token)["items"]
    if [one["text"] for one in found] != [text]:
        raise SystemExit(f"smoke: sent {text!r}, found {found}")
    print(f"smoke: {url} works; message {sent['seq']} is stored")


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            call(url, "GET", "/readyz")
        except (OSError, SystemExit) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"smoke: {url} is not ready: {error}") from None
            time.sleep(1)
        else:
            return


def call(
    url: str, method: str, path: str, body: object = None, token: str | None = None
) -> dict[str, Any]:
    """What is answered to a request; anything but a success ends the program."""
    request = urllib.request.Request(url + path, method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        raise SystemExit(f"smoke: {method} {path}: {error.code} {error.read().decode()}") from None


if __name__ == "__main__":
    main()
