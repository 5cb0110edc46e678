"""The web client's modules that need no page, imported from a running server into a real browser.

A round trip there costs more than what is asked, so cases go in batches.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import settings
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

ANN: Final = "ann@example.org"
BOB: Final = "bob@example.org"
CAT: Final = "cat@example.org"

few = settings(max_examples=15, deadline=None)

MODULES: Final = (
    "doors",
    "names",
    "outbox",
    "rows",
    "sentences",
    "session",
    "shelf",
    "socket",
    "summaries",
    "targets",
    "text",
    "ticks",
    "timeline",
    "times",
)


class Modules:
    """The client's modules in a browser, each under its name."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def run(self, body: str, given: object = None) -> Any:
        """What ``body`` returns, the body of an async function of ``given``."""
        found = ", ".join(f"import('/static/chat/{name}.js')" for name in MODULES)
        names = ", ".join(MODULES)
        return self._page.evaluate(
            f"async (given) => {{ const [{names}] = await Promise.all([{found}]);\n{body} }}", given
        )


def message(seq: int, sender: str = BOB, **more: object) -> dict[str, object]:
    """A message as the server shows it, of minute ``seq`` of an hour."""
    at = datetime(2026, 3, 2, 9, tzinfo=UTC) + timedelta(minutes=seq)
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    to = ANN if sender == BOB else BOB
    return {"from": sender, "to": to, "seq": seq, "text": f"text {seq}", "sent_at": text, **more}
