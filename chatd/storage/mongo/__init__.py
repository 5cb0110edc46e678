"""The store in MongoDB: `MongoStorage`. docs/storage.md shows its collections and tells why."""

from chatd.storage.mongo.store import MongoStorage

__all__ = ["MongoStorage"]
