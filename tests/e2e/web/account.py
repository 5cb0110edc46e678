"""A user over REST: does what a test wants done off the page, and sees what was stored."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.chat import PASSWORD, Json
from tests.leaks import watch


class Account:
    """A signed-in user, without a browser and off line."""

    def __init__(self, url: str, email: str) -> None:
        self._host = urlsplit(url).netloc
        self.email = email
        self.token = ""
        signed_in = self.call("POST", "/v1/auth/sign-in", {"email": email, "password": PASSWORD})
        self.token = signed_in["token"]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request, which must succeed; what the server answered."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection = HTTPConnection(self._host, timeout=10)
        watch.keep(body)
        try:
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        assert response.status < 300, (method, path, response.status, content)
        return json.loads(content) if content else None

    def create(self, group: str, title: str = "") -> None:
        self.call("POST", "/v1/groups", {"name": group, **({"title": title} if title else {})})

    def join(self, group: str) -> None:
        self.call("POST", f"/v1/groups/{group}/join")

    def say(self, *texts: str, **target: str) -> None:
        """Send to a ``user`` or a ``group``."""
        for text in texts:
            self.call("POST", f"{_path(**target)}/messages", {"text": text})

    def history(self, **target: str) -> list[Json]:
        """Every message with a ``user`` or in a ``group``, from the first on."""
        found: list[Json] = []
        while True:
            after = found[-1]["seq"] if found else 0
            query = urlencode({"after_seq": after, "limit": 200})
            page = self.call("GET", f"{_path(**target)}/messages?{query}")
            found += page["items"]
            if not page["has_more"]:
                return found

    def texts(self, **target: str) -> list[str]:
        return [message["text"] for message in self.history(**target)]


def _path(**target: str) -> str:
    ((kind, name),) = target.items()
    return f"/v1/{kind}s/{quote(name)}"
