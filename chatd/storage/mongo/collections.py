"""The collections of the database: what their documents look like, and their indexes.

Every query names the index that is to answer it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pymongo import ASCENDING, DESCENDING, IndexModel

BY_ID: Final = "_id_"
USERS_BY_ID: Final = "users_by_id"
GROUPS_BY_MEMBERS: Final = "groups_by_members"
GROUPS_BY_MESSAGES: Final = "groups_by_messages"
MEMBERS_BY_USER: Final = "members_by_user"
MARKS_BY_USER: Final = "marks_by_user"
MESSAGES_BY_SEQ: Final = "messages_by_seq"
MESSAGES_BY_SENDER: Final = "messages_by_sender"
MESSAGES_BY_CLIENT_ID: Final = "messages_by_client_id"
MESSAGES_BY_CONVERSATION_AND_CLIENT_ID: Final = "messages_by_conversation_and_client_id"
REVOKED_TOKENS_BY_EXPIRY: Final = "revoked_tokens_by_expiry"

Schema = Mapping[str, Any]
"""A JSON Schema as MongoDB's ``$jsonSchema`` has it."""

_TEXT: Final[Schema] = {"bsonType": "string"}
_DATE: Final[Schema] = {"bsonType": "date"}
_COUNT: Final[Schema] = {"bsonType": ["int", "long"], "minimum": 0}
_SEQ: Final[Schema] = {"bsonType": ["int", "long"], "minimum": 1}


class Collection(NamedTuple):
    """One collection: the schema of its documents, and its indexes beside that of ``_id``."""

    name: str
    schema: Schema
    indexes: Sequence[IndexModel] = ()


def collections(*, sharded: bool) -> Sequence[Collection]:
    """All there are, on one replica set or server, or on a sharded cluster."""
    return (
        Collection("meta", _META),
        Collection("users", _USER, [_index(USERS_BY_ID, "id", unique=True)]),
        Collection(
            "groups",
            _GROUP,
            [
                _index(GROUPS_BY_MEMBERS, "-members", "_id"),
                _index(GROUPS_BY_MESSAGES, "-messages", "_id"),
            ],
        ),
        Collection("members", _PLACE, [_index(MEMBERS_BY_USER, "_id.user", "_id.conversation")]),
        Collection("marks", _PLACE, [_index(MARKS_BY_USER, "_id.user", "_id.conversation")]),
        Collection(
            "messages",
            _MESSAGE,
            [
                _index(MESSAGES_BY_SEQ, "conversation", "seq", unique=True),
                _index(MESSAGES_BY_SENDER, "conversation", "sender", "seq"),
                *_by_client_id(sharded=sharded),
            ],
        ),
        Collection(
            "revoked_tokens",
            _REVOKED_TOKEN,
            # MongoDB forgets a token by itself, a minute or so after its end.
            [_index(REVOKED_TOKENS_BY_EXPIRY, "expires_at", expireAfterSeconds=0)],
        ),
    )


def _by_client_id(*, sharded: bool) -> Sequence[IndexModel]:
    """A unique index of a sharded collection has to begin with its shard key, which is
    ``conversation`` (MongoDB's manual, "Unique Indexes" on sharded collections)."""
    where = {"client_id": {"$exists": True}}
    by_client_id = _index(
        MESSAGES_BY_CLIENT_ID,
        "sender",
        "client_id",
        unique=not sharded,
        partialFilterExpression=where,
    )
    if not sharded:
        return [by_client_id]
    unique = _index(
        MESSAGES_BY_CONVERSATION_AND_CLIENT_ID,
        "conversation",
        "sender",
        "client_id",
        unique=True,
        partialFilterExpression=where,
    )
    return [by_client_id, unique]


def _index(name: str, *keys: str, **options: Any) -> IndexModel:
    """A key with a minus in front is descending."""
    directions = [
        (key.removeprefix("-"), DESCENDING if key.startswith("-") else ASCENDING) for key in keys
    ]
    return IndexModel(directions, name=name, **options)


def _object(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    return {
        "bsonType": "object",
        "required": list(required),
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


_META: Final = _object({"_id": _TEXT, "version": _COUNT, "epoch": _TEXT, "pings": _COUNT})

_USER: Final = _object(
    {
        "_id": _TEXT,
        "id": _TEXT,
        "password_hash": _TEXT,
        "created_at": _DATE,
        "generation": _COUNT,
    },
    last_seen_at=_DATE,
)

_GROUP: Final = _object(
    {
        "_id": _TEXT,
        "created_by": _TEXT,
        "created_at": _DATE,
        "founded": {"bsonType": "bool"},
        "members": _COUNT,
        "messages": _COUNT,
        "counts": _COUNT,
    },
    title=_TEXT,
)

_PLACE: Final = _object(
    {
        "_id": _object({"conversation": _TEXT, "user": _TEXT}),
        "joined_at": _DATE,
        "delivered_seq": _COUNT,
        "read_seq": _COUNT,
    },
    moved_by={"bsonType": "array", "items": _TEXT},
)

_MESSAGE: Final = _object(
    {
        "_id": _TEXT,
        "conversation": _TEXT,
        "seq": _SEQ,
        "sender": _TEXT,
        "text": _TEXT,
        "sent_at": _DATE,
    },
    client_id=_TEXT,
    delivered_at=_DATE,
    read_at=_DATE,
)

_REVOKED_TOKEN: Final = _object({"_id": _TEXT, "expires_at": _DATE})
