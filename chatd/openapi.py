"""OpenAPI 3.1 and AsyncAPI 3.0, generated from the routes and models that the server runs on.

An `Operation` stands at each REST method (see `chatd.handlers.api.operation`): it parses the
request, and it documents it, so the two can't part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from apispec import APISpec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from chatd import __version__
from chatd.errors import ChatError
from chatd.frames import AnyInbound, AnyOutbound
from chatd.schemas import Problem, Query

_REF: Final = "#/components/schemas/{model}"

Model = type[BaseModel]
Frame = type[msgspec.Struct]


class Answer(NamedTuple):
    """A successful answer: what it means and its body, None where it has none."""

    meaning: str
    model: Model | None = None
    media_type: str = "application/json"


class Operation(NamedTuple):
    """One method of one route. ``example`` is a body that works, for people and for tests."""

    summary: str
    tag: str
    answers: Mapping[int, Answer]
    errors: tuple[type[ChatError], ...] = ()
    query: type[Query] | None = None
    body: Model | None = None
    example: Mapping[str, object] | None = None
    public: bool = False
    while_draining: bool = False


class Parameter(NamedTuple):
    """A part of a path."""

    description: str
    example: str


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "email": Parameter("A user's e-mail address.", "bob@example.org"),
    "name": Parameter("A group's name.", "python"),
    "id": Parameter("A message's id.", "01890a5d-ac96-774b-bcce-b302099a8057"),
}

Documented = Mapping[str, Mapping[str, Operation]]
"""Path, then method in lower case."""


def openapi_document(operations: Documented) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    spec = APISpec(
        title="chatd",
        version=__version__,
        openapi_version="3.1.0",
        info={
            "description": "Text chat: groups and one to one. Sign in, press *Authorize* and "
            "paste the token. Messages arrive over the WebSocket that `/asyncapi.json` describes.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        tags=[{"name": tag} for tag in _tags(operations)],
    )
    spec.components.security_scheme(
        "bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    )
    for name, schema in _schemas(operations).items():
        spec.components.schema(name, schema)
    for path, methods in operations.items():
        spec.path(
            path=path,
            operations={verb: _operation(path, verb, op) for verb, op in methods.items()},
        )
    return spec.to_dict()


def _tags(operations: Documented) -> Iterable[str]:
    return dict.fromkeys(op.tag for methods in operations.values() for op in methods.values())


def _models(operations: Documented) -> list[tuple[Model, Any]]:
    found: dict[tuple[Model, str], None] = {(Problem, "serialization"): None}
    for methods in operations.values():
        for op in methods.values():
            if op.body is not None:
                found[op.body, "validation"] = None
            for answer in op.answers.values():
                if answer.model is not None:
                    found[answer.model, "serialization"] = None
    return list(found)


def _schemas(operations: Documented) -> dict[str, Any]:
    _, definitions = models_json_schema(_models(operations), ref_template=_REF)
    return {_plain(name): _plain_refs(schema) for name, schema in definitions["$defs"].items()}


def _plain(name: str) -> str:
    """``Page_UserView_`` reads better as ``PageOfUserView``."""
    return re.sub(r"^(\w+?)_(\w+)_$", r"\1Of\2", name)


def _plain_refs(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: "#/components/schemas/" + _plain(value.rpartition("/")[2])
            if key == "$ref"
            else _plain_refs(value)
            for key, value in schema.items()
        }
    return [_plain_refs(item) for item in schema] if isinstance(schema, list) else schema


def _operation(path: str, verb: str, op: Operation) -> dict[str, Any]:
    words = re.sub(r"[^a-z]+", "_", path.removeprefix("/v1")).strip("_")
    documented: dict[str, Any] = {
        "operationId": f"{verb}_{words}",
        "summary": op.summary,
        "tags": [op.tag],
        "parameters": [*_path_parameters(path), *_query_parameters(op.query)],
        "responses": {
            **{str(status): _answer(answer) for status, answer in op.answers.items()},
            **_problems(op),
        },
        "security": [] if op.public else [{"bearer": []}],
    }
    if op.body is not None:
        documented["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _REF.format(model=op.body.__name__)},
                    "example": op.example,
                }
            },
        }
    return documented


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PARAMETERS[name].description,
            "schema": {"type": "string"},
            "example": PARAMETERS[name].example,
        }
        for name in _path_names(path)
    ]


def _path_names(path: str) -> list[str]:
    """The names of a path's parts: ``name`` in ``/v1/groups/{name}``."""
    return re.findall(r"\{(\w+)\}", path)


def _query_parameters(query: type[Query] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    schema = _inlined(query.model_json_schema())
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": field.pop("description", ""),
            "schema": field,
        }
        for name, field in schema["properties"].items()
    ]


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its own definitions put in place: a parameter can't carry them."""
    definitions = schema.pop("$defs", {})

    def put(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                node = {**definitions[node["$ref"].rpartition("/")[2]], **node}
                del node["$ref"]
            return {key: put(value) for key, value in node.items()}
        return [put(item) for item in node] if isinstance(node, list) else node

    inlined: dict[str, Any] = put(schema)
    return inlined


def _answer(answer: Answer) -> dict[str, Any]:
    documented: dict[str, Any] = {"description": answer.meaning}
    if answer.model is not None:
        name = _plain(re.sub(r"\W+", "_", answer.model.__name__))
        documented["content"] = {answer.media_type: {"schema": {"$ref": _REF.format(model=name)}}}
    elif answer.media_type != "application/json":
        documented["content"] = {answer.media_type: {"schema": {"type": "string"}}}
    return documented


def _problems(op: Operation) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for error in sorted(op.errors, key=lambda error: (error.status, error.code)):
        codes.setdefault(error.status, []).append(error.code)
    return {
        str(status): {
            "description": f"{HTTPStatus(status).phrase}: "
            + ", ".join(f"`{name}`" for name in dict.fromkeys(names)),
            "content": {
                "application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}
            },
        }
        for status, names in codes.items()
    }


# -- AsyncAPI ----------------------------------------------------------------------------------

_SOCKETS: Final = {
    "everything": ("/v1/ws", "Every conversation of the user."),
    "oneToOne": ("/chat/user", "One-to-one traffic and presence only."),
    "group": ("/group/{name}/connect", "One group only."),
}


def asyncapi_document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the WebSocket, a JSON Schema for every frame."""
    kinds = [*AnyInbound.__args__, *AnyOutbound.__args__]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "chatd",
            "version": __version__,
            "description": "The WebSocket: text frames, one JSON object each. Delivery receipts "
            "come of themselves: the server's Pings are answered by every WebSocket client "
            "(RFC 6455 section 5.5.3).",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            name: _channel(address, description, kinds)
            for name, (address, description) in _SOCKETS.items()
        },
        "operations": {
            f"{action}On{channel[0].upper()}{channel[1:]}": _socket_operation(
                action, channel, frames
            )
            for channel in _SOCKETS
            for action, frames in (
                ("receive", AnyInbound.__args__),
                ("send", AnyOutbound.__args__),
            )
        },
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in kinds},
            "schemas": schemas,
        },
    }


def _channel(address: str, description: str, kinds: Iterable[Frame]) -> dict[str, Any]:
    parameters = {name: {"description": "A group's name."} for name in _path_names(address)}
    return {
        "address": address,
        "description": description,
        "messages": {
            kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds
        },
        "bindings": {"ws": {"query": _socket_query()}},
        **({"parameters": parameters} if parameters else {}),
    }


def _socket_operation(action: str, channel: str, frames: Iterable[Frame]) -> dict[str, Any]:
    """What the server does on a channel: it receives inbound frames and sends outbound ones."""
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{kind.__name__}"} for kind in frames],
    }


def _message(kind: Frame) -> dict[str, Any]:
    return {
        "name": kind.__struct_config__.tag,
        "summary": (kind.__doc__ or "").split("\n\n")[0],
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }


def _socket_query() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "Authorization": {"type": "string", "description": "The JWT."},
            "replay": {"enum": ["undelivered", "resume", "none"], "default": "undelivered"},
            "receipts": {"enum": ["automatic", "explicit"], "default": "automatic"},
        },
    }
