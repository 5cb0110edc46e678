"""Opaque cursors: where the next page of a list begins."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from pydantic import BaseModel

from chatd.errors import Invalid
from chatd.schemas import Page

_T = TypeVar("_T")
_View = TypeVar("_View", bound=BaseModel)


def encode_cursor(cursor: object) -> str:
    """Any frozen struct or text as an opaque word."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def decode_cursor(word: str, kind: type[_T]) -> _T:
    """The cursor behind a word that `encode_cursor` made; `Invalid` where it is another's."""
    try:
        padded = word.encode() + b"=" * (-len(word) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=kind)
    except (msgspec.MsgspecError, binascii.Error, UnicodeError):
        raise Invalid.field("after", "must be the `next` of an earlier page, unchanged") from None


def page(views: Sequence[_View], limit: int, cursor_of_last: object) -> Page[_View]:
    """A page of views, read with one more than ``limit`` to see whether others follow."""
    more = len(views) > limit
    return Page(items=list(views[:limit]), next=encode_cursor(cursor_of_last) if more else None)
