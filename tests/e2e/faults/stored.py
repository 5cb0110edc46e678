"""What a store really holds, read behind chatd's back wherever there is another way in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from chatd.models import group_conversation, pair_conversation
from tests.chat import User


class Row(NamedTuple):
    """A stored message; without ``client_id`` where the reader may not see it."""

    conversation: str
    seq: int
    id: str
    sender: str
    text: str
    client_id: str | None = None


def in_sqlite(path: Path) -> list[Row]:
    """The messages of a database file, which must be whole (``PRAGMA integrity_check``)."""
    with closing(sqlite3.connect(path)) as database:
        ((verdict,),) = database.execute("PRAGMA integrity_check")
        assert verdict == "ok", verdict
        return [
            Row(*row)
            for row in database.execute(
                "SELECT c.key, seq, id, sender, text, client_id"
                " FROM messages JOIN conversations c ON c.number = messages.conversation"
            )
        ]


def in_mongo(url: str) -> list[Row]:
    """The messages of a database, as a majority of its replica set has them."""
    with MongoClient[dict[str, Any]](url) as client:
        messages = client.get_default_database().get_collection(
            "messages", read_concern=ReadConcern("majority")
        )
        return [
            Row(
                conversation=one["conversation"],
                seq=one["seq"],
                id=one["_id"],
                sender=one["sender"],
                text=one["text"],
                client_id=one.get("client_id"),
            )
            for one in messages.find()
        ]


async def over_rest(reader: User, name: str, kind: str = "group") -> list[Row]:
    """The messages of a group as a member pages through them: all that memory storage shows.

    Or those of the pair with a user, where ``kind`` is "user".
    """
    conversation = pair_conversation(reader.email, name)
    if kind == "group":
        conversation = group_conversation(name)
    rows: list[Row] = []
    more = True
    while more:
        after = rows[-1].seq if rows else 0
        path = f"/v1/{kind}s/{name}/messages?after_seq={after}&limit=200"
        page = await reader.call("GET", path)
        assert page.status == 200, page
        more = page.body["has_more"]
        rows += [
            Row(conversation, one["seq"], one["id"], one["from"], one["text"], one.get("client_id"))
            for one in page.body["items"]
        ]
    return rows


def in_store(url: str, data_dir: Path) -> list[Row]:
    """The messages of a durable store, by the URL that its server was given."""
    if url.startswith("sqlite:"):
        return in_sqlite(data_dir / url.removeprefix("sqlite:"))
    return in_mongo(url)
