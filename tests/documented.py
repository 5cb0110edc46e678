"""The OpenAPI document that a server serves, and a `Chat` that holds every answer against it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from chatd.app import App
from tests.chat import Answer, Chat, Json


class Endpoint(NamedTuple):
    """One method of one documented path."""

    method: str
    path: str
    details: Json

    @property
    def is_public(self) -> bool:
        return not self.details["security"]

    @property
    def query(self) -> dict[str, Json]:
        """The query's parameters, by name."""
        return {one["name"]: one for one in self.details["parameters"] if one["in"] == "query"}

    @property
    def example(self) -> Json | None:
        """A body that works, None where the operation takes none."""
        content = self.details.get("requestBody", {}).get("content", {})
        return content["application/json"]["example"] if content else None

    @property
    def successes(self) -> set[int]:
        return {int(status) for status in self.details["responses"] if status.startswith("2")}

    def url(self, **parts: str) -> str:
        """The path with these parts, already encoded, else with the documented examples."""
        examples = {
            one["name"]: quote(one["example"], safe="")
            for one in self.details["parameters"]
            if one["in"] == "path"
        }
        return self.path.format(**{**examples, **parts})

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class OpenApi:
    """A document, and what it says of a request."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self.endpoints = [
            Endpoint(method.upper(), path, details)
            for path, methods in document["paths"].items()
            for method, details in methods.items()
        ]

    def at(self, path: str) -> dict[str, Endpoint]:
        """The operations of a path, by method; none where it isn't documented."""
        return {
            endpoint.method: endpoint
            for endpoint in self.endpoints
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", endpoint.path), path)
        }

    def faults(self, schema: Json, value: object) -> list[str]:
        """What the schema, whose references are the document's, says against the value."""
        validator = Draft202012Validator(
            {**schema, "components": self.document["components"]}, format_checker=FormatChecker()
        )
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def properties(self, endpoint: Endpoint) -> Json:
        """The schemas of the fields of an operation's body."""
        content = endpoint.details["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        return dict(self.document["components"]["schemas"][name]["properties"])

    def check(self, method: str, url: str, answer: Answer) -> None:
        """Assert that the answer is one that the document promises."""
        endpoints = self.at(url.partition("?")[0])
        if not endpoints:
            return
        if method not in endpoints:
            assert answer.status in (405, 421), f"{method} {url} is not documented: {answer}"
            return
        responses = endpoints[method].details["responses"]
        assert str(answer.status) in responses, f"{method} {url} documents no {answer.status}"
        self._check_body(responses[str(answer.status)], answer)

    def _check_body(self, response: Json, answer: Answer) -> None:
        if "content" not in response:
            assert answer.body is None
            return
        media_type = answer.headers["Content-Type"].partition(";")[0]
        assert media_type in response["content"], f"{media_type} is not documented: {answer}"
        assert not self.faults(response["content"][media_type]["schema"], answer.body)
        if media_type == "application/problem+json":
            assert f"`{answer.body['code']}`" in response["description"]


class DocumentedChat(Chat):
    """A running server, each of whose answers must be one that its own document promises."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.openapi: OpenApi

    async def call(self, method: str, path: str, body: object = None, **more: Any) -> Answer:
        answer = await super().call(method, path, body, **more)
        self.openapi.check(method, path, answer)
        return answer

    async def read_document(self) -> None:
        self.openapi = OpenApi((await super().call("GET", "/openapi.json")).body)


def failures(server: App) -> Iterator[str]:
    """What went wrong inside, as the metrics have it."""
    for line in server.metrics.text().decode().splitlines():
        if line.startswith("chatd_failures_total{"):
            yield line


@pytest.fixture
async def chat(io_loop: object, server: App) -> AsyncIterator[DocumentedChat]:
    """The server, started; at the end nothing may have gone wrong inside it."""
    # argon2 is slow on purpose, and tests sign in all the time.
    server.building.passwords._context.update(argon2__memory_cost=8, argon2__time_cost=1)
    chat = DocumentedChat(await server.start())
    await chat.read_document()
    yield chat
    chat.close()
    assert not list(failures(server))
