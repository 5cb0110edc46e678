"""Reading lists page by page."""

from __future__ import annotations

from tests.chat import Json, User


async def pages(user: User, url: str, limit: int) -> list[list[Json]]:
    """Every page of a list, in order."""
    found: list[list[Json]] = []
    after = ""
    while True:
        joint = "&" if "?" in url else "?"
        answer = await user.call("GET", f"{url}{joint}limit={limit}{after}")
        assert answer.status == 200, answer
        assert set(answer.body) == {"items", "next"}
        found.append(answer.body["items"])
        if answer.body["next"] is None:
            return found
        after = f"&after={answer.body['next']}"


async def page_through(user: User, url: str, limit: int) -> list[Json]:
    """The whole list, read in pages of which all but the last are full, and none is empty."""
    found = await pages(user, url, limit)
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1] or len(found) == 1
    return [item for page in found for item in page]
