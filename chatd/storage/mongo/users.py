"""Users and revoked tokens in MongoDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bson.datetime_ms import DatetimeMS
from pymongo import ASCENDING, UpdateOne
from pymongo.errors import DuplicateKeyError

from chatd.models import RevokedToken, User
from chatd.storage.mongo.collections import BY_ID, REVOKED_TOKENS_BY_EXPIRY, USERS_BY_ID
from chatd.storage.mongo.documents import Db, user_document, user_of
from chatd.storage.ranges import end_of


async def create_user(db: Db, user: User) -> bool:
    try:
        await db.users.insert_one(user_document(user))
    except DuplicateKeyError:
        return False
    return True


async def user_by_email(db: Db, email: str) -> User | None:
    document = await db.users.find_one({"_id": email}, hint=BY_ID)
    return None if document is None else user_of(document)


async def user_by_id(db: Db, user_id: str) -> User | None:
    document = await db.users.find_one({"id": user_id}, hint=USERS_BY_ID)
    return None if document is None else user_of(document)


async def users_by_email(db: Db, emails: Sequence[str]) -> list[User]:
    found = db.users.find({"_id": {"$in": list(emails)}}, hint=BY_ID).sort("_id", ASCENDING)
    return [user_of(document) async for document in found]


async def list_users(db: Db, prefix: str, after: str, limit: int) -> list[User]:
    chosen = {"$gte": prefix, "$gt": after, "$lt": end_of(prefix)}
    found = db.users.find({"_id": chosen}, hint=BY_ID).sort("_id", ASCENDING).limit(limit)
    return [user_of(document) async for document in found]


async def set_password(db: Db, email: str, password_hash: str, generation: int) -> None:
    change = {"$set": {"password_hash": password_hash, "generation": generation}}
    await db.users.update_one({"_id": email}, change, hint=BY_ID)


async def delete_user(db: Db, email: str) -> bool:
    deleted = await db.users.delete_one({"_id": email}, hint=BY_ID)
    return deleted.deleted_count == 1


async def touch_last_seen(db: Db, seen: Mapping[str, int]) -> None:
    if seen:
        await db.users.bulk_write(
            [
                UpdateOne({"_id": email}, {"$max": {"last_seen_at": DatetimeMS(at)}}, hint=BY_ID)
                for email, at in seen.items()
            ],
            ordered=False,
        )


async def revoke_token(db: Db, token_id: str, expires_at: int) -> None:
    change = {"$max": {"expires_at": DatetimeMS(expires_at)}}
    await db.revoked_tokens.update_one({"_id": token_id}, change, upsert=True, hint=BY_ID)


async def revoked_tokens(db: Db, now: int) -> list[RevokedToken]:
    chosen = {"expires_at": {"$gt": DatetimeMS(now)}}
    found = db.revoked_tokens.find(chosen, hint=REVOKED_TOKENS_BY_EXPIRY)
    tokens = [RevokedToken(one["_id"], int(one["expires_at"])) async for one in found]
    return sorted(tokens, key=lambda token: token.id)
