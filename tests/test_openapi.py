"""The generated documents: valid, complete, and true of the server that serves them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import RequestHandler

from chatd.app import ROUTES, App
from chatd.errors import ChatError, Invalid
from chatd.frames import decode
from chatd.handlers import socket as sockets
from chatd.handlers.api import ApiHandler
from chatd.models import Draft, now_ms, pair_conversation
from tests import documented
from tests.chat import Answer, Json, User, start_app
from tests.documented import DocumentedChat, Endpoint
from tests.raw import send_raw

chat = documented.chat

ENDS = ("/v1/groups/{name}/leave", "/v1/auth/password", "/v1/auth/sign-out")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture
async def server(
    io_loop: object, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[App]:
    mark = request.node.get_closest_marker("settings")
    app = await start_app(tmp_path, **(mark.kwargs if mark else {}))
    yield app
    await app.stop()


# -- OpenAPI -----------------------------------------------------------------------------------


async def test_the_document_is_openapi_3_1(io_loop: Any, chat: DocumentedChat) -> None:
    document = chat.openapi.document
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


async def test_every_operation_is_told_apart_and_described(
    io_loop: Any, chat: DocumentedChat
) -> None:
    operations = [endpoint.details for endpoint in chat.openapi.endpoints]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in chat.openapi.document["tags"]}
    assert all(operation["summary"] and set(operation["tags"]) <= tags for operation in operations)
    for endpoint in chat.openapi.endpoints:
        assert endpoint.is_public or endpoint.details["security"] == [{"bearer": []}]
        assert endpoint.successes
    bearer = chat.openapi.document["components"]["securitySchemes"]["bearer"]
    assert (bearer["type"], bearer["scheme"]) == ("http", "bearer")


async def test_the_operations_are_those_of_the_protocol(io_loop: Any, chat: DocumentedChat) -> None:
    assert {str(endpoint) for endpoint in chat.openapi.endpoints} == {
        "POST /v1/auth/sign-in",
        "POST /v1/auth/token",
        "GET /v1/auth/me",
        "POST /v1/auth/sign-out",
        "POST /v1/auth/password",
        "GET /v1/users",
        "GET /v1/users/{email}",
        "POST /v1/groups",
        "GET /v1/groups",
        "GET /v1/me/groups",
        "GET /v1/groups/{name}",
        "POST /v1/groups/{name}/join",
        "POST /v1/groups/{name}/leave",
        "GET /v1/groups/{name}/members",
        "GET /v1/groups/{name}/messages",
        "POST /v1/groups/{name}/messages",
        "GET /v1/users/{email}/messages",
        "POST /v1/users/{email}/messages",
        "POST /v1/groups/{name}/receipts",
        "POST /v1/users/{email}/receipts",
        "GET /v1/me/conversations",
        "GET /v1/me/export",
        "DELETE /v1/me",
        "GET /v1/messages/{id}",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }


async def test_every_route_is_documented_and_every_document_routed(
    io_loop: Any, server: App, chat: DocumentedChat
) -> None:
    promised: dict[str, set[str]] = {}
    for endpoint in chat.openapi.endpoints:
        promised.setdefault(endpoint.path, set()).add(endpoint.method)
    listed = [route for route in ROUTES if issubclass(route.handler, ApiHandler)]
    assert {route.path: implemented(route.handler) for route in listed} == promised
    # The same from the other end: what Tornado would do with each documented address.
    rules = server.application().wildcard_router.rules
    assert sum(issubclass(rule.target, ApiHandler) for rule in rules) == len(promised)
    for endpoint in chat.openapi.endpoints:
        line = RequestStartLine(endpoint.method, endpoint.url(), "HTTP/1.1")
        request = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "localhost"}))
        target = next(rule.target for rule in rules if rule.matcher.match(request) is not None)
        assert implemented(target) == promised[endpoint.path]


async def test_a_method_is_answered_where_it_is_documented_and_nowhere_else(
    io_loop: Any, chat: DocumentedChat
) -> None:
    for path in {endpoint.url() for endpoint in chat.openapi.endpoints}:
        promised = set(chat.openapi.at(path))
        answered = set()
        for method in METHODS:
            answer = await send_raw(chat.url, f"{method} {path} HTTP/1.1\nHost: localhost")
            if answer.status != 405:
                answered.add(method)
        assert answered == promised, path


async def test_every_list_is_read_in_pages_of_up_to_200(io_loop: Any, chat: DocumentedChat) -> None:
    lists = [one for one in chat.openapi.endpoints if "limit" in one.query]
    assert len(lists) == 7
    for endpoint in lists:
        limit = endpoint.query["limit"]["schema"]
        assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 200, 50)
        is_history = endpoint.path.endswith("/messages")
        arguments = {"before_seq", "after_seq"} if is_history else {"after"}
        assert set(endpoint.query) >= arguments


async def test_every_example_fits_its_schema(io_loop: Any, chat: DocumentedChat) -> None:
    schemas: Json = chat.openapi.document["components"]["schemas"]
    tried = 0
    for schema in schemas.values():
        for field in schema["properties"].values():
            for example in field.get("examples", ()):
                assert not chat.openapi.faults(field, example)
                tried += 1
    for endpoint in chat.openapi.endpoints:
        if endpoint.example is not None:
            content = endpoint.details["requestBody"]["content"]["application/json"]
            assert not chat.openapi.faults(content["schema"], endpoint.example)
            tried += 1
    assert tried > 10


async def test_every_operation_works_as_its_example_shows(
    io_loop: Any, server: App, chat: DocumentedChat
) -> None:
    """In the document's order, as the documented user; every answer must fit its schema."""
    await prepare(server, chat)
    token: str | None = None
    for endpoint in in_order(chat.openapi.endpoints):
        caller = await token_for(endpoint, chat, token)
        answer = await chat.call(endpoint.method, endpoint.url(), endpoint.example, token=caller)
        assert answer.status in endpoint.successes, (str(endpoint), answer)
        token = new_token(answer) or token


async def test_every_documented_success_is_reached(
    io_loop: Any, server: App, chat: DocumentedChat
) -> None:
    """Each operation, and then once more those that answer a repeat in another way."""
    await prepare(server, chat)
    reached: dict[str, set[int]] = {str(endpoint): set() for endpoint in chat.openapi.endpoints}
    token: str | None = None
    for endpoint in in_order(chat.openapi.endpoints):
        body = endpoint.example
        if len(endpoint.successes) > 1 and body and "text" in body:
            # A name of the message's own makes the repeat one.
            body = {**body, "client_id": endpoint.path}
        caller = await token_for(endpoint, chat, token)
        for _ in endpoint.successes:
            answer = await chat.call(endpoint.method, endpoint.url(), body, token=caller)
            reached[str(endpoint)].add(answer.status)
            token = new_token(answer) or token
    assert reached == {str(endpoint): endpoint.successes for endpoint in chat.openapi.endpoints}


def implemented(handler: type[RequestHandler]) -> set[str]:
    """The methods that a handler has itself, as Tornado finds them."""
    return {
        method
        for method in METHODS
        if getattr(handler, method.lower()) is not getattr(RequestHandler, method.lower())
    }


def in_order(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The document's order, but what ends a membership, a password or a token at the end."""
    return sorted(endpoints, key=lambda one: ENDS.index(one.path) if one.path in ENDS else -1)


async def token_for(endpoint: Endpoint, chat: DocumentedChat, token: str | None) -> str | None:
    """The documented user's token; whoever ends their account is somebody else."""
    if str(endpoint) == "DELETE /v1/me":
        return (await chat.user("leaver@example.org")).token
    return token


def new_token(answer: Answer) -> str | None:
    return answer.body.get("token") if isinstance(answer.body, dict) else None


async def prepare(server: App, chat: DocumentedChat) -> None:
    """Make what the examples of paths name: another user, and a message."""
    examples = {
        parameter["name"]: parameter["example"]
        for endpoint in chat.openapi.endpoints
        for parameter in endpoint.details["parameters"]
        if parameter["in"] == "path"
    }
    (sign_in,) = [one.example for one in chat.openapi.endpoints if one.path.endswith("/sign-in")]
    assert sign_in is not None
    bob = await chat.user(examples["email"])
    message = Draft(
        id=examples["id"],
        conversation=pair_conversation(bob.email, sign_in["email"]),
        sender=bob.email,
        text="hello",
        sent_at=now_ms(),
    )
    await server.storage.append([message])


# -- AsyncAPI ----------------------------------------------------------------------------------


@pytest.fixture
async def asyncapi(io_loop: object, chat: DocumentedChat) -> AsyncApi:
    return AsyncApi((await chat.call("GET", "/asyncapi.json")).body)


class AsyncApi:
    """An AsyncAPI document, read the way a client's generator does."""

    def __init__(self, document: Json) -> None:
        self.document = document

    def find(self, reference: str) -> Any:
        """What a reference within the document leads to."""
        found: Any = self.document
        assert reference.startswith("#/")
        for part in reference[2:].split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        return found

    def references(self, node: Any = None) -> Iterator[str]:
        """Every reference in the document."""
        node = self.document if node is None else node
        children = node.values() if isinstance(node, dict) else node
        if isinstance(node, dict) and "$ref" in node:
            yield node["$ref"]
        for child in children if isinstance(node, dict | list) else ():
            if isinstance(child, dict | list):
                yield from self.references(child)

    def messages(self, action: str) -> dict[str, Json]:
        """The schemas of what the server receives, or sends, by the ``type`` of the frame."""
        found: dict[str, Json] = {}
        for operation in self.document["operations"].values():
            if operation["action"] == action:
                for one in operation["messages"]:
                    message = self.find(self.find(one["$ref"])["$ref"])
                    found[message["name"]] = self.find(message["payload"]["$ref"])
        return found

    def faults(self, schema: Json, value: object) -> list[str]:
        """What a schema says against a frame; AsyncAPI's schemas are JSON Schema's draft 7."""
        whole = {**schema, "components": self.document["components"]}
        return [
            f"{error.json_path}: {error.message}"
            for error in Draft7Validator(whole, format_checker=FormatChecker()).iter_errors(value)
        ]


async def test_the_document_is_asyncapi_3_0(io_loop: Any, asyncapi: AsyncApi) -> None:
    """The structure that https://www.asyncapi.com/docs/reference/specification/v3.0.0 asks for."""
    document = asyncapi.document
    assert document["asyncapi"] == "3.0.0"
    assert document["info"].keys() >= {"title", "version"}
    assert document.keys() <= {
        "asyncapi",
        "id",
        "info",
        "servers",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }
    for channel in document["channels"].values():
        assert channel.keys() <= {"address", "description", "messages", "bindings", "parameters"}
        in_address = set(re.findall(r"\{(\w+)\}", channel["address"]))
        assert set(channel.get("parameters", {})) == in_address
        assert all(reference.keys() == {"$ref"} for reference in channel["messages"].values())
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation.keys() <= {"action", "channel", "messages", "summary", "description"}
        channel = operation["channel"]["$ref"]
        assert channel.startswith("#/channels/")
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/")
    for message in document["components"]["messages"].values():
        assert message.keys() >= {"name", "payload"}
        assert message["summary"]
    for schema in document["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


async def test_every_reference_leads_somewhere(io_loop: Any, asyncapi: AsyncApi) -> None:
    references = set(asyncapi.references())
    assert len(references) > 50
    for reference in references:
        assert asyncapi.find(reference)
    used = {reference.rpartition("/")[2] for reference in references if "/schemas/" in reference}
    assert used == set(asyncapi.document["components"]["schemas"])


async def test_the_channels_are_the_sockets_that_are_routed(
    io_loop: Any, asyncapi: AsyncApi
) -> None:
    addresses = [channel["address"] for channel in asyncapi.document["channels"].values()]
    assert sorted(addresses) == sorted(route.path for route in sockets.ROUTES)
    actions = {
        (operation["action"], operation["channel"]["$ref"])
        for operation in asyncapi.document["operations"].values()
    }
    assert actions == {
        (action, f"#/channels/{name}")
        for name in asyncapi.document["channels"]
        for action in ("send", "receive")
    }


async def test_the_query_of_a_socket_is_as_documented(
    io_loop: Any, chat: DocumentedChat, asyncapi: AsyncApi
) -> None:
    ann = await chat.user("ann@example.org")
    query = asyncapi.document["channels"]["everything"]["bindings"]["ws"]["query"]["properties"]
    assert set(query) == {"Authorization", "replay", "receipts"}
    for name in ("replay", "receipts"):
        for value in query[name]["enum"]:
            async with ann.socket("/v1/ws", **{name: value}) as socket:
                await socket.next("hello") if value == "resume" else None
                assert socket.of("hello")


async def test_the_frames_are_those_of_the_protocol(io_loop: Any, asyncapi: AsyncApi) -> None:
    assert set(asyncapi.messages("receive")) == {
        "auth",
        "send",
        "received",
        "read",
        "typing",
        "resume",
        "ping",
    }
    assert set(asyncapi.messages("send")) == {
        "hello",
        "message",
        "sent",
        "receipt",
        "gap",
        "ready",
        "presence",
        "typing",
        "read",
        "joined",
        "left",
        "error",
        "bye",
        "pong",
    }


async def test_every_frame_that_fits_its_schema_is_one(io_loop: Any, asyncapi: AsyncApi) -> None:
    for kind, schema in asyncapi.messages("receive").items():
        for frame in instances(asyncapi, schema):
            assert not asyncapi.faults(schema, frame)
            assert type(decode(json.dumps(frame))).__name__.lower() == kind


async def test_every_frame_that_does_not_fit_is_refused(io_loop: Any, asyncapi: AsyncApi) -> None:
    tried = 0
    for schema in asyncapi.messages("receive").values():
        assert schema["additionalProperties"] is False
        *_, whole = instances(asyncapi, schema)
        for name, value in wrong_values(whole):
            frame = {**whole, name: value}
            if asyncapi.faults(schema, frame):
                with pytest.raises(ChatError) as raised:
                    decode(json.dumps(frame))
                assert raised.value.status in (400, 422)
                if isinstance(raised.value, Invalid):
                    assert re.split(r"[.\[]", raised.value.errors[0].field)[0] == name
                tried += 1
        for name in schema["required"]:
            with pytest.raises(ChatError):
                decode(json.dumps({key: whole[key] for key in whole if key != name}))
    assert tried > 100


def instances(api: AsyncApi, schema: Json) -> Iterator[Json]:
    """Frames of this schema: with what is required, with nulls, and with everything."""
    fields = schema["properties"]
    yield {name: instance(api, fields[name]) for name in schema["required"]}
    yield {name: instance(api, field, -1) for name, field in fields.items()}
    yield {name: instance(api, field) for name, field in fields.items()}


def instance(api: AsyncApi, schema: Json, choice: int = 0) -> Any:
    """A value that fits a schema; of several kinds, the one chosen."""
    if "$ref" in schema:
        *_, whole = instances(api, api.find(schema["$ref"]))
        return whole
    if "anyOf" in schema:
        return instance(api, schema["anyOf"][choice])
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "array":
        return [instance(api, schema["items"])]
    return {
        "string": "x" * schema.get("maxLength", 1),
        "integer": schema.get("maximum", 1),
        "null": None,
    }[schema["type"]]


def wrong_values(frame: Json) -> Iterator[tuple[str, object]]:
    for name in (*frame, "surplus"):
        for value in (None, True, 7, -1, 2**53, 1.5, "", "x" * 65, [], [7], {}, {"seq": "1"}):
            yield name, value


@pytest.mark.settings(limits__replay=1)
async def test_every_frame_of_a_live_session_is_as_documented(
    io_loop: Any, chat: DocumentedChat, asyncapi: AsyncApi
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    for text in ("one", "two", "three"):
        await ann.say(text, user=bob.email)
    frames = await session(ann, bob)
    documents = asyncapi.messages("send")
    assert {frame["type"] for frame in frames} == set(documents)
    for frame in frames:
        schema = documents[frame["type"]]
        assert not asyncapi.faults(schema, frame), frame
        assert set(frame) <= set(schema["properties"])


async def session(ann: User, bob: User) -> list[Json]:
    """Everything that two users are sent while they do everything there is."""
    async with ann.socket() as a, bob.socket() as b, bob.socket() as other:
        await a.next("presence", where=lambda frame: bob.email in frame["online"])
        await bob.join("python")
        await a.next("joined")
        for target in ({"to": bob.email}, {"group": "python"}):
            await a.send(type="typing", **target)
            await b.next("typing")
            sent = await a.say("hello", client_id=str(target), **target)
            await b.next("message")
            source = {"from": ann.email} if "to" in target else target
            await b.send(type="read", seq=sent["seq"], **source)
            await other.next("read")
            await a.next("receipt", where=lambda frame: frame["kind"] == "read")
        await a.send(type="send", to="nobody@example.org", text="hello", client_id="c2")
        await a.next("error")
        await bob.call("POST", "/v1/groups/python/leave")
        await a.next("left")
        await a.settle()
        await bob.call("POST", "/v1/auth/sign-out")
        await b.closed()
    return a.frames + b.frames + other.frames
