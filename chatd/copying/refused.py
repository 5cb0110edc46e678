"""Why a copy can't be made, or has broken off."""

from __future__ import annotations


class CopyRefused(Exception):
    """One sentence for the person who copies."""
