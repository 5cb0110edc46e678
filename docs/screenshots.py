"""Make the pictures of the web client in docs/images.

Run it from anywhere with the checkout's Python: `.venv/bin/python docs/screenshots.py`. It starts
a chatd of its own on a temporary folder, fills it with what a small team has written over some
days, and looks at it with Chromium (`CHATD_TEST_CHROMIUM`, or the one on PATH). Emoji need a font
that has them: Debian's fonts-noto-color-emoji should be installed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from chatd.models import Draft, group_conversation, pair_conversation  # noqa: E402
from tests.e2e.server import Server  # noqa: E402
from tests.e2e.web.account import Account  # noqa: E402
from tests.e2e.web.filled import Filler, draft, fill, to_group  # noqa: E402

IMAGES: Final = ROOT / "docs" / "images"

CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")

WIDE: Final = {"width": 1280, "height": 800}
PHONE: Final = {"width": 390, "height": 844}


def address(name: str) -> str:
    return f"{name}@example.org"


MAYA, NOAH, LINA, OMAR, IRIS, TOM = map(address, ("maya", "noah", "lina", "omar", "iris", "tom"))
TEAM: Final = (MAYA, NOAH, LINA, OMAR, IRIS, TOM)

TITLES: Final = {
    "garden": "Community garden",
    "release-2.4": "Release 2.4",
    "lunch": "Lunch 🥗",
}


class Line(NamedTuple):
    """Something written: so many days ago, at a time of day."""

    days: int
    clock: str
    sender: str
    text: str


GARDEN: Final = (
    Line(2, "17:42", LINA, "The new raised beds have arrived. Who can help on Saturday?"),
    Line(2, "17:45", OMAR, "I can, from ten o’clock on. I’ll bring the drill."),
    Line(2, "17:51", MAYA, "Me too 🙋"),
    Line(1, "09:12", IRIS, "Seeds are sorted. Tomatoes, beans, and far too much basil 🌿"),
    Line(1, "09:14", IRIS, "The list is here: https://garden.example.org/seeds"),
    Line(1, "12:30", NOAH, "שבת שלום לכולם! אני מביא עציצים."),
    Line(1, "12:33", LINA, "Wonderful, thank you! Pots are what we are short of."),
    Line(0, "08:55", MAYA, "It may rain at noon. Shall we start at nine?"),
    Line(0, "08:57", OMAR, "Nine is fine with me."),
    Line(0, "08:58", LINA, "And for me. Croissants are on me 🥐"),
    Line(0, "09:03", MAYA, "Great, nine it is. I’ll tell the neighbours."),
)

RELEASE: Final = (
    Line(3, "10:01", TOM, "The branch is cut. Only fixes from here on."),
    Line(1, "15:20", NOAH, "The import of old archives is 4 times as fast now."),
    Line(0, "09:40", TOM, "Notes for the changelog, please, before three."),
    Line(0, "09:41", TOM, "And somebody should read the upgrade page once more."),
)

LUNCH: Final = (
    Line(1, "11:40", IRIS, "Noodles today?"),
    Line(1, "11:42", TOM, "Noodles. 🍜"),
    Line(0, "09:20", IRIS, "The place at the corner has opened again"),
)

WITH_OMAR: Final = (
    Line(1, "16:02", MAYA, "Hi Omar, did the drawings for the shed get through?"),
    Line(1, "16:10", OMAR, "They did. Looks good! Two remarks:"),
    Line(1, "16:11", OMAR, "1. The door should open outwards\n2. A window to the south, if we can"),
    Line(1, "16:15", MAYA, "Both easy. I’ll draw it anew tonight."),
    Line(0, "08:05", MAYA, "Done: https://garden.example.org/shed-3"),
    Line(0, "08:06", MAYA, "The window costs us one shelf, no more."),
    Line(0, "09:28", OMAR, "That was quick 👏"),
    Line(0, "09:29", OMAR, "شكراً جزيلاً، هذا رائع!"),
    Line(0, "09:31", OMAR, "Shall I order the wood then? It takes about a week to come."),
)

WITH_LINA: Final = (
    Line(3, "18:20", LINA, "Could you keep the key of the tool shed until Friday?"),
    Line(3, "18:31", MAYA, "Of course."),
)

WITH_IRIS: Final = (
    Line(1, "19:05", MAYA, "Thanks for the seeds! 🌱"),
    Line(1, "19:08", IRIS, "With pleasure. The basil was on offer 😄"),
)

WITH_NOAH: Final = (Line(5, "14:00", NOAH, "I’m back on Monday."),)


GROUPS: Final[dict[str, tuple[Line, ...]]] = {
    "garden": GARDEN,
    "release-2.4": RELEASE,
    "lunch": LUNCH,
}
PAIRS: Final[dict[str, tuple[Line, ...]]] = {
    OMAR: WITH_OMAR,
    LINA: WITH_LINA,
    IRIS: WITH_IRIS,
    NOAH: WITH_NOAH,
}


def at(line: Line, now: datetime) -> int:
    """When a line was written, in milliseconds: its time of day, counted back from ``now``."""
    hour, minute = map(int, line.clock.split(":"))
    day = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return int((day - timedelta(days=line.days)).timestamp() * 1000)


async def fill_all(filler: Filler, now: datetime) -> None:
    start = int((now - timedelta(days=30)).timestamp() * 1000)
    seen = int(now.timestamp() * 1000)
    for name, lines in GROUPS.items():
        await filler.group(name, TEAM, start, TITLES[name])
        await filler.written(to_group(name, one.sender, one.text, at(one, now)) for one in lines)
    for other, lines in PAIRS.items():
        await filler.written(said(other, lines, now))
    garden = group_conversation("garden")
    for member, seq in ((LINA, 11), (OMAR, 11), (IRIS, 10), (MAYA, 11)):
        await filler.read(garden, member, seq, seen)
    for other, seq in ((OMAR, 6), (LINA, 2), (IRIS, 2), (NOAH, 1)):
        await filler.read(pair_conversation(MAYA, other), MAYA, seq, seen)
        await filler.read(pair_conversation(MAYA, other), other, seq, seen)
    await filler.read(group_conversation("release-2.4"), MAYA, 2, seen)
    await filler.read(group_conversation("lunch"), MAYA, 2, seen)


def said(other: str, lines: tuple[Line, ...], now: datetime) -> Iterator[Draft]:
    conversation = pair_conversation(MAYA, other)
    return (draft(conversation, one.sender, one.text, at(one, now)) for one in lines)


@contextmanager
def team() -> Iterator[tuple[str, dict[str, str]]]:
    """A server with all that; its address, and everybody's token."""
    with tempfile.TemporaryDirectory() as folder:
        # Written this morning, whenever it is made.
        now = datetime.now().astimezone().replace(hour=9, minute=35)
        fill(Path(folder) / "chatd.db", lambda filler: fill_all(filler, now))
        server = Server(Path(folder))
        try:
            server.start()
            yield server.url, {one: Account(server.url, one).token for one in TEAM}
        finally:
            server.close()


class Studio:
    """Chromium, before which people of the team open pages."""

    def __init__(self, browser: Browser, url: str, tokens: dict[str, str]) -> None:
        self._browser = browser
        self._url = url
        self._tokens = tokens

    def open(self, door: str, who: str = MAYA, **options: Any) -> Page:
        page = self._browser.new_context(
            locale="en-GB", reduced_motion="reduce", device_scale_factor=1, **options
        ).new_page()
        path, _, fragment = door.partition("#")
        page.goto(f"{self._url}{path}?Authorization={self._tokens[who]}#{fragment}")
        expect(page.get_by_text("Connected", exact=True)).to_be_visible()
        return page

    def take(self, page: Page, name: str) -> None:
        # The caret blinks: it would be in one picture and not in the next.
        page.screenshot(path=IMAGES / f"{name}.png", caret="hide")
        page.context.close()


def group_wide_light(studio: Studio) -> None:
    page = studio.open("/group/garden/connect", viewport=WIDE, color_scheme="light")
    page.get_by_role("button", name="Members").click()
    expect(page.get_by_role("list", name="Members").get_by_role("button")).to_have_count(6)
    studio.take(page, "group")


def pair_wide_dark(studio: Studio) -> None:
    page = studio.open(f"/chat/user#{OMAR}", viewport=WIDE, color_scheme="dark")
    expect(page.get_by_role("log").locator(".new")).to_be_visible()
    studio.take(page, "pair-dark")


def conversation_phone_light(studio: Studio) -> None:
    page = studio.open(f"/chat/user#{OMAR}", viewport=PHONE, color_scheme="light", has_touch=True)
    expect(page.get_by_role("log")).to_contain_text("Shall I order the wood")
    studio.take(page, "phone")


def list_phone_dark(studio: Studio) -> None:
    page = studio.open("/chat", viewport=PHONE, color_scheme="dark", has_touch=True)
    expect(page.get_by_role("list", name="Conversations").locator("li")).to_have_count(7)
    studio.take(page, "phone-list-dark")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    path = os.environ.get("CHATD_TEST_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)))
    with team() as (url, tokens), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        studio = Studio(browser, url, tokens)
        # These are on line while the pictures are taken.
        for other in (OMAR, LINA, IRIS):
            studio.open("/chat", other)
        # The phone's list is first: what is opened later becomes read.
        list_phone_dark(studio)
        pair_wide_dark(studio)
        group_wide_light(studio)
        conversation_phone_light(studio)
        browser.close()


if __name__ == "__main__":
    main()
