"""Why a MongoDB store can't be opened, in one sentence for the person who starts the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dns.exception import DNSException
from pymongo.errors import ConfigurationError, InvalidName, OperationFailure, PyMongoError

from chatd.errors import Unavailable
from chatd.storage.mongo.address import Address
from chatd.storage.refused import StorageRefused

_UNAUTHORIZED: Final = frozenset({13, 8000})
_AUTHENTICATION_FAILED: Final = 18
_MISNAMED: Final = frozenset({73, 13297})
"""Error codes of MongoDB: Unauthorized and AtlasError; InvalidNamespace and DatabaseDifferCase."""


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """While opening: the driver's errors as `Unavailable` or `StorageRefused`, with the reason."""
    try:
        yield
    except OperationFailure as error:
        if error.code in _MISNAMED:
            raise StorageRefused(f"{address} can't be used: {reason(error)}.") from error
        if error.code == _AUTHENTICATION_FAILED:
            raise StorageRefused(
                f"{address} refuses the user or the password that the URL names; where the user "
                "is one of another database, name that as authSource."
            ) from error
        if error.code not in _UNAUTHORIZED:
            raise Unavailable(f"{address} can't be used now: {reason(error)}") from error
        raise StorageRefused(
            f"{address} refuses: {reason(error)}. The user that the URL names needs the role "
            f"dbOwner on {address.database}, or readWrite and dbAdmin."
        ) from error
    except (InvalidName, ConfigurationError) as error:
        if isinstance(error.__cause__, DNSException):
            raise Unavailable(f"{address} can't be found: {reason(error)}") from error
        raise StorageRefused(f"{address} can't be used: {reason(error)}.") from error
    except PyMongoError as error:
        raise Unavailable(f"{address} can't be reached: {reason(error)}") from error


_BEHIND_THE_REASON: Final = re.compile(
    r", Timeout: .*|, full error: .*| to execute command .*|: Server Do53.*"
    r"| or maybe a camelCase .*|\. Hint: .*|, use urllib.*",
    re.DOTALL,
)
_WITHIN_THE_REASON: Final = re.compile(
    r" \(configured timeouts: [^)]*\)|\[SSL[^]]*\] ?| \(_ssl\.c:\d+\)"
)


def reason(error: Exception) -> str:
    """What a person needs of the driver's sentence."""
    text = _WITHIN_THE_REASON.sub("", _BEHIND_THE_REASON.sub("", str(error))).rstrip(".")
    if "SSL handshake failed" in text:
        return f"{text}; maybe it does not know TLS, and the URL should not say tls=true"
    if "connection closed" in text:
        return (
            f"{text}; maybe it takes TLS only (tls=true in the URL), or a client certificate "
            "that it trusts (tlsCertificateKeyFile)"
        )
    return text
