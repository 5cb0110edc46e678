"""Administration over a socket in the data folder, which only chatd's own user may open."""

from __future__ import annotations

import json

from tornado.web import Application

from chatd.administration import Administration
from chatd.errors import BadJson, Invalid
from chatd.handlers.base import GuardedHandler, NothingHere
from chatd.handlers.services import Services

_WHOSE = ("email", "name", "group")


class AdminHandler(GuardedHandler):
    """``POST /OPERATION`` with its arguments as a JSON object; answered as JSON."""

    def initialize(  # type: ignore[override]
        self, services: Services, administration: Administration
    ) -> None:
        super().initialize(services)
        self._administration = administration

    def check_host(self) -> None:
        """No page and no other machine can reach this socket: any name will do."""

    def _check_body_size(self, size: int) -> None:
        """Who can reach it is trusted, and a page of a copy is as large as its messages are."""

    async def post(self, operation: str) -> None:
        self.services.state.check_started()
        arguments = self._arguments()
        answer = await self._administration.call(operation, arguments)
        about = {name: str(arguments[name])[:254] for name in _WHOSE if name in arguments}
        self.services.log.info(
            "admin.done", operation=operation, request_id=self.request_id, **about
        )
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(answer, ensure_ascii=False))

    def _arguments(self) -> dict[str, object]:
        try:
            found = json.loads(self.body.decode() or "{}")
        except ValueError as error:
            raise BadJson(f"the body is not JSON in UTF-8: {error}") from None
        if not isinstance(found, dict):
            raise Invalid("the body must be a JSON object")
        return found


def admin_application(services: Services, administration: Administration) -> Application:
    """Tornado's application for the socket."""
    return Application(
        [
            (
                r"/([a-z_]+)",
                AdminHandler,
                {"services": services, "administration": administration},
            )
        ],
        default_handler_class=NothingHere,
        default_handler_args={"services": services},
        log_function=lambda _: None,
    )
