"""Messages of groups and of pairs: history, sending, receipts; and the list of conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chatd.errors import (
    ClientIdReused,
    FieldError,
    Invalid,
    NotAMember,
    UnknownGroup,
    UnknownMessage,
    UnknownUser,
)
from chatd.handlers.api import ApiHandler, Reply, operation
from chatd.handlers.base import Route
from chatd.handlers.paging import decode_cursor, page
from chatd.models import (
    ClientIdConflict,
    Conversation,
    Duplicate,
    ReceiptKind,
    SummaryCursor,
    group_of,
    pair_of,
)
from chatd.openapi import Answer
from chatd.schemas import (
    ConversationView,
    HistoryQuery,
    HistoryView,
    MessageView,
    NewMessage,
    Page,
    PageQuery,
    ReceiptMarks,
    SentView,
)

_TAG = "Messages"
_ABSENT = (UnknownUser, UnknownGroup, NotAMember)
_HISTORY: Final = {200: Answer("Messages by seq ascending.", HistoryView)}
_SENT: Final = {
    201: Answer("The message is stored.", SentView),
    200: Answer("The same send again: the message as stored before.", SentView),
}
# Without a client_id, which names one message: the next would be that one, or refused.
_MESSAGE: Final = {"text": "Hello, world"}
_MARKED: Final = {204: Answer("Stored; those who wrote what it covers are told.")}
_KINDS: Final = {"delivered_seq": ReceiptKind.DELIVERED, "read_seq": ReceiptKind.READ}


class _ConversationHandler(ApiHandler):
    """What a group's and a pair's messages share."""

    async def conversation(self, path: dict[str, str]) -> Conversation:
        return await self.services.router.conversation(
            self.user, to=path.get("email"), group=path.get("name")
        )

    async def history(self, conversation: Conversation, query: HistoryQuery) -> HistoryView:
        if query.after_seq is not None and query.before_seq is not None:
            raise Invalid.field("before_seq", "or after_seq: give one of the two")
        messages = await self.services.storage.history(
            conversation,
            after_seq=query.after_seq,
            before_seq=query.before_seq,
            limit=query.limit + 1,
        )
        more = len(messages) > query.limit
        if more:
            # The one too many lies at the far end: behind with after_seq, else in front.
            messages = messages[:-1] if query.after_seq is not None else messages[1:]
        return HistoryView(
            items=[MessageView.of(message, self.user) for message in messages], has_more=more
        )

    async def send(self, conversation: Conversation, body: NewMessage) -> Reply:
        outcome = await self.services.router.send_and_wait(
            self.user, conversation, body.text, body.client_id
        )
        if isinstance(outcome, ClientIdConflict):
            raise ClientIdReused("this client_id was sent before with another text or target")
        duplicate = isinstance(outcome, Duplicate)
        view = SentView.sent(outcome.message, duplicate=duplicate)
        return Reply(200 if duplicate else 201, view)

    async def mark(self, conversation: Conversation, marks: ReceiptMarks) -> None:
        given = {name: seq for name, seq in marks.model_dump().items() if seq is not None}
        if not given:
            raise Invalid.field("delivered_seq", "or read_seq, or both, must be given")
        await self._check_written(conversation, given)
        for name, seq in given.items():
            await self.services.router.claim(self.user, conversation, _KINDS[name], seq)
        await self.services.router.store_receipts()

    async def _check_written(self, conversation: Conversation, given: Mapping[str, int]) -> None:
        """Refuse all where one is beyond the last message: a refused request has no effect."""
        last = await self.services.storage.last_seq(conversation)
        beyond = [
            FieldError(name, f"must not be beyond the last one, {last}")
            for name, seq in given.items()
            if seq > last
        ]
        if beyond:
            raise Invalid("; ".join(f"{one.field} {one.message}" for one in beyond), beyond)


class MessagesHandler(_ConversationHandler):
    """Both of ``/v1/groups/{name}/messages`` and ``/v1/users/{email}/messages``."""

    @operation("A conversation's history", _TAG, *_ABSENT, query=HistoryQuery, answers=_HISTORY)
    async def get(self, query: HistoryQuery, **path: str) -> HistoryView:
        return await self.history(await self.conversation(path), query)

    @operation(
        "Send a message",
        _TAG,
        *_ABSENT,
        ClientIdReused,
        body=NewMessage,
        answers=_SENT,
        example=_MESSAGE,
    )
    async def post(self, body: NewMessage, **path: str) -> Reply:
        return await self.send(await self.conversation(path), body)


class ReceiptsHandler(_ConversationHandler):
    @operation(
        "Say how far messages have arrived or been read; forward only",
        _TAG,
        *_ABSENT,
        body=ReceiptMarks,
        answers=_MARKED,
        example={"read_seq": 1},
    )
    async def post(self, body: ReceiptMarks, **path: str) -> None:
        await self.mark(await self.conversation(path), body)


class MessageHandler(ApiHandler):
    @operation(
        "One message with its receipts, for those who may read it",
        _TAG,
        UnknownMessage,
        answers={200: Answer("The message.", MessageView)},
    )
    async def get(self, id: str) -> MessageView:
        message = await self.services.storage.message(id)
        if message is None or not await self._may_read(message.conversation):
            raise UnknownMessage("there is no such message among those you may read")
        return MessageView.of(message, self.user)

    async def _may_read(self, conversation: Conversation) -> bool:
        group = group_of(conversation)
        if group is not None:
            return group in await self.services.router.groups_of(self.user)
        return self.user in (pair_of(conversation) or ())


class ConversationsHandler(ApiHandler):
    @operation(
        "The caller's conversations, newest first",
        _TAG,
        query=PageQuery,
        answers={200: Answer("A page of conversations.", Page[ConversationView])},
    )
    async def get(self, query: PageQuery) -> Page[ConversationView]:
        summaries = await self.services.storage.summaries(
            self.user,
            after=decode_cursor(query.after, SummaryCursor) if query.after else None,
            limit=query.limit + 1,
        )
        views = [ConversationView.of(summary, self.user) for summary in summaries]
        shown = summaries[: query.limit]
        cursor = SummaryCursor(shown[-1].active_at, shown[-1].conversation) if shown else None
        return page(views, query.limit, cursor)


ROUTES = [
    Route("/v1/groups/{name}/messages", MessagesHandler),
    Route("/v1/users/{email}/messages", MessagesHandler),
    Route("/v1/groups/{name}/receipts", ReceiptsHandler),
    Route("/v1/users/{email}/receipts", ReceiptsHandler),
    Route("/v1/me/conversations", ConversationsHandler),
    Route("/v1/messages/{id}", MessageHandler),
]
