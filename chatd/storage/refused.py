"""Why a store does not start."""

from __future__ import annotations


class StorageRefused(Exception):
    """A store can't or mustn't be opened: one sentence for the person who starts the server."""
