"""The caller's own: all of it in one document, and the end of the account."""

from __future__ import annotations

from chatd.errors import BadCredentials, RateLimited, UnknownUser
from chatd.handlers.api import ApiHandler, Reply, operation
from chatd.handlers.base import Route
from chatd.openapi import Answer
from chatd.schemas import AccountEnd, ErasedView, ExportView

_TAG = "One's own"


class ExportHandler(ApiHandler):
    @operation(
        "Everything of the caller's",
        _TAG,
        answers={
            200: Answer(
                "The account, its memberships, its one-to-one conversations, and what it wrote in"
                " groups.",
                ExportView,
            )
        },
    )
    async def get(self) -> Reply:
        assert self.session is not None
        self.set_header("Content-Disposition", 'attachment; filename="chatd-export.json"')
        self.services.log.info(
            "export.begun", user_id=self.session.user.id, request_id=self.request_id
        )
        return Reply(200, pieces=self.services.exports.of(self.session.user))


class MyAccountHandler(ApiHandler):
    @operation(
        "Erase the caller's account, for good",
        _TAG,
        BadCredentials,
        UnknownUser,
        body=AccountEnd,
        answers={200: Answer("It is erased; what remains.", ErasedView)},
        example={"password": "correct horse battery"},
    )
    async def delete(self, body: AccountEnd) -> ErasedView:
        assert self.session is not None
        user_id = self.session.user.id
        try:
            user = await self.services.accounts.confirm(self.session, body.password)
        except (BadCredentials, RateLimited) as error:
            self.services.log.info(
                "erasure.refused", code=error.code, user_id=user_id, request_id=self.request_id
            )
            raise
        erased = await self.services.erasure.erase(user)
        self.services.log.info("erasure.done", user_id=user_id, request_id=self.request_id)
        return ErasedView(author=erased.author, remains=erased.remains)


ROUTES = [
    Route("/v1/me", MyAccountHandler),
    Route("/v1/me/export", ExportHandler),
]
