"""Finding users, and seeing who is on line."""

from __future__ import annotations

from chatd.errors import UnknownUser
from chatd.handlers.api import ApiHandler, operation
from chatd.handlers.base import Route
from chatd.handlers.paging import decode_cursor, page
from chatd.models import User, is_erased
from chatd.openapi import Answer
from chatd.schemas import Page, UserPresenceView, UsersQuery

_TAG = "Users"


class UsersHandler(ApiHandler):
    @operation(
        "List users, by address",
        _TAG,
        query=UsersQuery,
        answers={200: Answer("A page of users.", Page[UserPresenceView])},
    )
    async def get(self, query: UsersQuery) -> Page[UserPresenceView]:
        prefix = query.prefix.strip().lower()
        after = decode_cursor(query.after, str) if query.after else ""
        users = await self._users(query.online, prefix, after, query.limit + 1)
        roster = self.services.roster
        views = [UserPresenceView.seen(user, online=roster.is_online(user.email)) for user in users]
        return page(
            views, query.limit, users[query.limit - 1].email if users[query.limit :] else ""
        )

    async def _users(self, online: bool | None, prefix: str, after: str, limit: int) -> list[User]:
        storage, roster = self.services.storage, self.services.roster
        if online:
            emails = sorted(
                email
                for email in roster.online_users()
                if email > after and email.startswith(prefix)
            )
            return await storage.users_by_email(emails[:limit])
        found: list[User] = []
        while len(found) < limit:
            part = await storage.list_users(prefix=prefix, after=after, limit=limit)
            found += [user for user in part if self._is_listed(user.email, prefix, online)]
            if len(part) < limit:
                break
            after = part[-1].email
        return found[:limit]

    def _is_listed(self, email: str, prefix: str, online: bool | None) -> bool:
        """Who was erased is found by who names them; ``online`` is False where only those off line
        count."""
        if is_erased(email) and email != prefix:
            return False
        return online is None or not self.services.roster.is_online(email)


class UserHandler(ApiHandler):
    @operation(
        "One user",
        _TAG,
        UnknownUser,
        answers={200: Answer("The user.", UserPresenceView)},
    )
    async def get(self, email: str) -> UserPresenceView:
        user = await self.services.directory.user(email)
        return UserPresenceView.seen(user, online=self.services.roster.is_online(user.email))


ROUTES = [
    Route("/v1/users", UsersHandler),
    Route("/v1/users/{email}", UserHandler),
]
