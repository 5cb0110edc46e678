"""Making, finding, joining and leaving groups."""

from __future__ import annotations

from chatd.errors import GroupExists, NotAMember, NothingToLeave, UnknownGroup
from chatd.handlers.api import ApiHandler, operation
from chatd.handlers.base import Route
from chatd.handlers.paging import decode_cursor, page
from chatd.models import Group, GroupCursor, GroupSort
from chatd.openapi import Answer
from chatd.schemas import GroupsQuery, GroupView, MemberView, NewGroup, Page, PageQuery

_TAG = "Groups"


class _GroupLists(ApiHandler):
    """What lists of groups share."""

    async def list_groups(self, query: GroupsQuery, *, only_mine: bool) -> Page[GroupView]:
        groups = await self.services.storage.list_groups(
            sort=query.sort,
            prefix=query.prefix.strip().lower(),
            member=self.user if only_mine else None,
            after=decode_cursor(query.after, GroupCursor) if query.after else None,
            limit=query.limit + 1,
        )
        mine = set(await self.services.router.groups_of(self.user))
        views = [GroupView.of(group, joined=group.name in mine) for group in groups]
        return page(views, query.limit, _cursor(groups[: query.limit], query.sort))


def _cursor(groups: list[Group], sort: GroupSort) -> GroupCursor | None:
    if not groups:
        return None
    last = groups[-1]
    counts = {GroupSort.NAME: 0, GroupSort.MEMBERS: last.members, GroupSort.MESSAGES: last.messages}
    return GroupCursor(last.name, counts[sort])


class GroupsHandler(_GroupLists):
    @operation(
        "List groups",
        _TAG,
        query=GroupsQuery,
        answers={200: Answer("A page of groups.", Page[GroupView])},
    )
    async def get(self, query: GroupsQuery) -> Page[GroupView]:
        return await self.list_groups(query, only_mine=False)

    @operation(
        "Make a group; its creator is a member",
        _TAG,
        GroupExists,
        body=NewGroup,
        answers={201: Answer("The group.", GroupView)},
        example={"name": "python", "title": "All things Python"},
    )
    async def post(self, body: NewGroup) -> GroupView:
        group = await self.services.router.create_group(self.user, body.name, body.title)
        self.services.log.info(
            "group.created", group=group.name, user_id=self.user_id, request_id=self.request_id
        )
        return GroupView.of(group, joined=True)


class MyGroupsHandler(_GroupLists):
    @operation(
        "List the caller's groups",
        _TAG,
        query=GroupsQuery,
        answers={200: Answer("A page of groups.", Page[GroupView])},
    )
    async def get(self, query: GroupsQuery) -> Page[GroupView]:
        return await self.list_groups(query, only_mine=True)


class GroupHandler(ApiHandler):
    @operation("One group", _TAG, UnknownGroup, answers={200: Answer("The group.", GroupView)})
    async def get(self, name: str) -> GroupView:
        group = await self.services.router.require_group(name)
        mine = await self.services.router.groups_of(self.user)
        return GroupView.of(group, joined=group.name in mine)


class JoinHandler(ApiHandler):
    @operation(
        "Join a group; once more is no error",
        _TAG,
        UnknownGroup,
        answers={200: Answer("The group.", GroupView)},
    )
    async def post(self, name: str) -> GroupView:
        return GroupView.of(await self.services.router.join(self.user, name), joined=True)


class LeaveHandler(ApiHandler):
    @operation(
        "Leave a group",
        _TAG,
        UnknownGroup,
        NothingToLeave,
        answers={204: Answer("Left.")},
    )
    async def post(self, name: str) -> None:
        await self.services.router.leave(self.user, name)


class MembersHandler(ApiHandler):
    @operation(
        "The members of a group, by address; members only",
        _TAG,
        UnknownGroup,
        NotAMember,
        query=PageQuery,
        answers={200: Answer("A page of members.", Page[MemberView])},
    )
    async def get(self, name: str, query: PageQuery) -> Page[MemberView]:
        group = await self.services.router.require_member(self.user, name)
        after = decode_cursor(query.after, str) if query.after else ""
        members = await self.services.storage.members(group, after=after, limit=query.limit + 1)
        roster = self.services.roster
        views = [MemberView.of(one, online=roster.is_online(one.email)) for one in members]
        last = members[: query.limit][-1].email if members else ""
        return page(views, query.limit, last)


ROUTES = [
    Route("/v1/groups", GroupsHandler),
    Route("/v1/me/groups", MyGroupsHandler),
    Route("/v1/groups/{name}", GroupHandler),
    Route("/v1/groups/{name}/join", JoinHandler),
    Route("/v1/groups/{name}/leave", LeaveHandler),
    Route("/v1/groups/{name}/members", MembersHandler),
]
