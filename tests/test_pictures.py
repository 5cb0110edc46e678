"""The pictures that the README shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
MOST_BYTES: Final = 200_000
PICTURE: Final = re.compile(
    r"!\[[^\]]*\]\(([^)\s]+)|<(?:img|source)\b[^>]*?\bsrc(?:set)?=\"([^\"]+)"
)
PNG: Final = b"\x89PNG\r\n\x1a\n"


def named(markdown: str) -> list[str]:
    """The files in the checkout that Markdown or the HTML in it shows as pictures."""
    paths = [one or other for one, other in PICTURE.findall(markdown)]
    return [path for path in paths if not path.startswith(("http:", "https:"))]


def test_pictures_are_found_however_they_are_written() -> None:
    markdown = '![a](x/a.png "t") ![](b.png)'
    html = '<img alt="c" src="c.png"> <source srcset="d.png">'
    assert named(markdown + html) == ["x/a.png", "b.png", "c.png", "d.png"]
    assert named("[a](a.png) ![b](https://example.org/b.svg)") == []


def test_every_picture_that_the_readme_shows_is_there() -> None:
    for path in named((ROOT / "README.md").read_text()):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("name", ["group", "pair-dark", "phone", "phone-list-dark"])
def test_a_picture_of_the_client_is_small_enough_to_be_loaded_by_everybody(name: str) -> None:
    picture = (ROOT / "docs" / "images" / f"{name}.png").read_bytes()
    assert picture.startswith(PNG)
    assert len(picture) < MOST_BYTES
