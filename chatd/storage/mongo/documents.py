"""The documents of MongoDB's collections, and the models they stand for.

Times are BSON dates, milliseconds like the models'. What a model has not (None), its document
leaves out. A user is known by ``_id``, the e-mail address, a group by ``_id``, its name, a
message by ``_id``, its uuid; a place, which is where one user stands in one conversation, by the
pair of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.datetime_ms import DatetimeMS
from motor.motor_asyncio import AsyncIOMotorDatabase

from chatd.models import (
    Conversation,
    Group,
    Member,
    Message,
    Place,
    User,
    group_of,
)
from chatd.storage.ranges import end_of

Document = Mapping[str, Any]

Db = AsyncIOMotorDatabase[dict[str, Any]]


def user_document(user: User) -> dict[str, Any]:
    document = {
        "_id": user.email,
        "id": user.id,
        "password_hash": user.password_hash,
        "created_at": DatetimeMS(user.created_at),
        "generation": user.generation,
    }
    if user.last_seen_at is not None:
        document["last_seen_at"] = DatetimeMS(user.last_seen_at)
    return document


def user_of(document: Document) -> User:
    return User(
        id=document["id"],
        email=document["_id"],
        password_hash=document["password_hash"],
        created_at=int(document["created_at"]),
        generation=document["generation"],
        last_seen_at=_time(document, "last_seen_at"),
    )


def group_document(group: Group, messages: int) -> dict[str, Any]:
    """A new group, which nobody is in yet, not even its founder."""
    document = {
        "_id": group.name,
        "created_by": group.created_by,
        "created_at": DatetimeMS(group.created_at),
        "founded": False,
        "members": 0,
        "messages": messages,
        "counts": 0,
    }
    if group.title is not None:
        document["title"] = group.title
    return document


def group_from(document: Document) -> Group:
    return Group(
        name=document["_id"],
        title=document.get("title"),
        created_by=document["created_by"],
        created_at=int(document["created_at"]),
        members=document["members"],
        messages=document["messages"],
    )


def message_document(message: Message) -> dict[str, Any]:
    document = {
        "_id": message.id,
        "conversation": message.conversation,
        "seq": message.seq,
        "sender": message.sender,
        "text": message.text,
        "sent_at": DatetimeMS(message.sent_at),
    }
    if message.client_id is not None:
        document["client_id"] = message.client_id
    if message.delivered_at is not None:
        document["delivered_at"] = DatetimeMS(message.delivered_at)
    if message.read_at is not None:
        document["read_at"] = DatetimeMS(message.read_at)
    return document


def message_of(document: Document) -> Message:
    return Message(
        id=document["_id"],
        conversation=document["conversation"],
        seq=document["seq"],
        sender=document["sender"],
        text=document["text"],
        sent_at=int(document["sent_at"]),
        client_id=document.get("client_id"),
        delivered_at=_time(document, "delivered_at"),
        read_at=_time(document, "read_at"),
    )


def _time(document: Document, key: str) -> int | None:
    at = document.get(key)
    return None if at is None else int(at)


def collection_of(conversation: Conversation) -> str:
    """Where its places are: a group's members keep their marks with their membership."""
    return "marks" if group_of(conversation) is None else "members"


def place_id(conversation: Conversation, user: str) -> dict[str, str]:
    """The ``_id`` of a place. Its fields' order counts: MongoDB compares them in turn."""
    return {"conversation": conversation, "user": user}


def places_in(conversation: Conversation, after: str = "") -> dict[str, Any]:
    """What finds the places in a conversation, of users behind ``after``: one range of ids."""
    return {
        "_id": {
            "$gt": place_id(conversation, after),
            "$lt": place_id(conversation, end_of("")),
        }
    }


def place_document(place: Place) -> dict[str, Any]:
    """A place that no call has moved yet."""
    return {
        "_id": place_id(place.conversation, place.user),
        "joined_at": DatetimeMS(place.joined_at),
        "delivered_seq": place.delivered_seq,
        "read_seq": place.read_seq,
    }


def place_of(document: Document) -> Place:
    return Place(
        conversation=document["_id"]["conversation"],
        user=document["_id"]["user"],
        joined_at=int(document["joined_at"]),
        delivered_seq=document["delivered_seq"],
        read_seq=document["read_seq"],
    )


def member_of(document: Document) -> Member:
    place = place_of(document)
    group = group_of(place.conversation)
    assert group is not None, "members have places in groups"
    return Member(group, place.user, place.joined_at, place.delivered_seq, place.read_seq)
