"""chatd: a self-hosted text-chat server."""

__version__ = "0.1.0"
