"""Behind the whole suite: no server's log has a token, a password or a message's text in it.

Helpers tell what is secret as they send it, servers what they have logged; at the end each
process of pytest looks for the one in the other, and a find fails the run.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

LEAKS: Final = "leaks"

_SHOWN: Final = 80
"""Characters of a secret that are shown."""
_TOKEN: Final = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")
_NO_SECRET: Final = re.compile(r"[0-9a-f-]{16,36}|\d{4}-\d\d-\d\dT[\d:.]+Z")
"""Ids and times: each log has thousands of them."""
_SECRET_FIELDS: Final = ("password", "current", "new", "text", "token")
_SHORTEST: Final = 8
"""Characters of a secret that is looked for within what was logged. A shorter one, and one word
alone, may be a part of anything, of a traceback's lines too: it must not be all of a value."""


class Watch:
    """What must not be logged, and what was."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._logged: set[str] = set()

    def keep(self, body: object) -> None:
        """What is secret in a request, an answer or a frame must not be logged."""
        if isinstance(body, dict):
            found = (body.get(field) for field in _SECRET_FIELDS)
            # What only differs by its number is looked for without it; "xxxxxxxx" is no secret.
            texts = (one.rstrip("0123456789") for one in found if isinstance(one, str))
            self._secrets |= {one for one in texts if len(set(one)) > 1}

    def logged(self, text: str) -> None:
        """What a server has written to its log."""
        for line in text.splitlines():
            try:
                values = set(_texts(json.loads(line)))
            except ValueError:
                values = {line}
            self._logged |= {one for one in values if not _NO_SECRET.fullmatch(one)}

    def found(self) -> list[str]:
        """A line for each secret that was logged."""
        everything = "\n".join(self._logged)
        tokens = [f"a token: {one}" for one in _TOKEN.findall(everything)]
        secrets = [repr(one) for one in sorted(self._secrets) if self._has(one, everything)]
        return [one[:_SHOWN] for one in tokens + secrets]

    def _has(self, secret: str, everything: str) -> bool:
        tells = len(secret) >= _SHORTEST and not secret.isalpha()
        return secret in (everything if tells else self._logged)


def _texts(value: Any) -> Iterator[str]:
    """Every text in what a line says."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


watch: Final = Watch()


class WatchedStream(io.StringIO):
    """Where servers in the test's own process log to: what is severe is shown as well."""

    def write(self, text: str) -> int:
        watch.logged(text)
        if '"level": "error"' in text:
            sys.stderr.write(text)
        return len(text)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    found = watch.found()
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[LEAKS] = found
        return
    session.config.stash[_FOUND] = [*session.config.stash.get(_FOUND, []), *found]
    if session.config.stash[_FOUND]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_FOUND: Final = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended, and says what it has found."""
    found = getattr(node, "workeroutput", {}).get(LEAKS, [])
    node.config.stash[_FOUND] = [*node.config.stash.get(_FOUND, []), *found]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = terminalreporter.config.stash.get(_FOUND, [])
    if found:
        terminalreporter.section("secrets in logs", red=True)
        for line in found:
            terminalreporter.line(line)
