"""The one form of a name: users' e-mail addresses and groups' names.

Spaces around are cut off, the rest is normalised to NFKC and lower-cased (the width and case
mapping of RFC 8265, UsernameCaseMapped): whatever form of a name people type, it is the same
user or group, or it is refused. Nothing here sends mail or asks the DNS.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import email_validator

from chatd.models import GROUP_NAME

# chatd never sends mail, so ann@corp.local or ann@box.test names a user as well as any other.
# Emptying this list is the library's documented way to say so.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

EMAIL_CHARACTERS: Final = 254
"""RFC 5321 section 4.5.3.1.3, less the angle brackets."""

_TYPED: Final = 1024
"""Characters of any name in any form that people type."""


def normalize_email(text: str) -> str:
    """The address that names a user, or ValueError with a sentence for people.

    Letters of every script are fine (RFC 6531); quoted local parts and domain literals are
    not, and no form holds spaces, control or bidirectional formatting characters.
    """
    address = _fold(text)
    if address is None or len(address) > EMAIL_CHARACTERS:
        raise ValueError(f"An e-mail address has at most {EMAIL_CHARACTERS} characters.")
    try:
        valid = email_validator.validate_email(
            address, check_deliverability=False, globally_deliverable=False
        )
    except email_validator.EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return valid.normalized


def normalize_group(text: str) -> str:
    """The name of a group, or ValueError with a sentence for people."""
    name = _fold(text)
    if name is None or not GROUP_NAME.fullmatch(name):
        raise ValueError(
            "A group's name is 2 to 64 characters of a-z 0-9 . _ -, the first a letter or a digit."
        )
    return name


def _fold(text: str) -> str | None:
    """The one form of a name; None for what is far too long to be one."""
    # To normalise many characters takes so long that everybody else waits.
    if len(text) > _TYPED:
        return None
    # Lower-casing may undo the normal form and NFKC may make upper case: hence twice.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return folded.strip(" ")
