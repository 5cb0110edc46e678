"""Signing in and up, tokens, passwords."""

from __future__ import annotations

from chatd.accounts import SignIn
from chatd.errors import BadCredentials, Invalid, RateLimited, SignupClosed
from chatd.handlers.api import ApiHandler, Reply, operation
from chatd.handlers.base import Route
from chatd.models import User, rfc3339
from chatd.networks import place_of
from chatd.openapi import Answer
from chatd.schemas import Credentials, PasswordChange, SessionView, TokenView, UserView
from chatd.security import IssuedToken

_TAG = "Signing in"
_TOKEN = Answer("A token for the user.", TokenView)


class SignInHandler(ApiHandler):
    @operation(
        "Sign in; the first sign-in with an address makes the account",
        _TAG,
        BadCredentials,
        SignupClosed,
        RateLimited,
        body=Credentials,
        answers={200: _TOKEN, 201: Answer("The account was made; a token for it.", TokenView)},
        example={"email": "ann@example.org", "password": "correct horse battery"},
        public=True,
    )
    async def post(self, body: Credentials) -> Reply:
        accounts, metrics = self.services.accounts, self.services.metrics
        try:
            result = await accounts.sign_in(
                body.email, body.password, place_of(self.client_address)
            )
        except (BadCredentials, SignupClosed, RateLimited, Invalid) as error:
            metrics.sign_ins.labels(error.code).inc()
            self.services.log.info(
                "sign_in.refused",
                code=error.code,
                address=self.client_address,
                request_id=self.request_id,
            )
            raise
        metrics.sign_ins.labels("created" if result.created else "ok").inc()
        self.services.log.info(
            "sign_in.accepted",
            user_id=result.user.id,
            created=result.created,
            address=self.client_address,
            request_id=self.request_id,
        )
        return Reply(201 if result.created else 200, _token_view(result.user, result.token))


class TokenHandler(ApiHandler):
    @operation("A fresh token for the caller", _TAG, answers={200: _TOKEN})
    async def post(self) -> TokenView:
        session = self.session
        assert session is not None
        return _token_view(session.user, self.services.accounts.renew(session))


class MeHandler(ApiHandler):
    @operation(
        "Who the caller is, and until when the token is good",
        _TAG,
        answers={200: Answer("The user and the token's times.", SessionView)},
    )
    async def get(self) -> SessionView:
        assert self.session is not None
        claims = self.session.claims
        return SessionView(
            **UserView.of(self.session.user).model_dump(),
            issued_at=rfc3339(claims.issued_at),
            expires_at=rfc3339(claims.expires_at),
        )


class SignOutHandler(ApiHandler):
    @operation(
        "Revoke this token, and end the sockets that live by it",
        _TAG,
        answers={204: Answer("Signed out.")},
    )
    async def post(self) -> None:
        assert self.session is not None
        await self.services.accounts.sign_out(self.session)
        self.services.log.info(
            "sign_out.done", user_id=self.session.user.id, request_id=self.request_id
        )


class PasswordHandler(ApiHandler):
    @operation(
        "Change the password; every other token of the user is revoked",
        _TAG,
        BadCredentials,
        body=PasswordChange,
        answers={200: Answer("A fresh token, the only good one.", TokenView)},
        example={"current": "correct horse battery", "new": "staple battery correct"},
    )
    async def post(self, body: PasswordChange) -> TokenView:
        assert self.session is not None
        accounts, user_id = self.services.accounts, self.session.user.id
        try:
            changed: SignIn = await accounts.change_password(self.session, body.current, body.new)
        except (BadCredentials, RateLimited, Invalid) as error:
            self.services.log.info(
                "password.refused", code=error.code, user_id=user_id, request_id=self.request_id
            )
            raise
        self.services.log.info(
            "password.changed", user_id=changed.user.id, request_id=self.request_id
        )
        return _token_view(changed.user, changed.token)


def _token_view(user: User, issued: IssuedToken) -> TokenView:
    seconds = (issued.claims.expires_at - issued.claims.issued_at) // 1000
    return TokenView(token=issued.token, expires_in=seconds, user=UserView.of(user))


ROUTES = [
    Route("/v1/auth/sign-in", SignInHandler),
    Route("/v1/auth/token", TokenHandler),
    Route("/v1/auth/me", MeHandler),
    Route("/v1/auth/sign-out", SignOutHandler),
    Route("/v1/auth/password", PasswordHandler),
]
