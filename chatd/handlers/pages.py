"""What a browser opens: the API's documentation, the web client, and their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import swagger_ui
from tornado.web import StaticFileHandler

from chatd.handlers.base import GuardedHandler, Route
from chatd.handlers.services import Services

STATIC: Final = Path(__file__).parent.parent / "static"
SWAGGER: Final = Path(swagger_ui.__file__).parent / "static"

_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_STATIC_PATH: Final = r"/static/((?:[\w-]+/)*[\w-]+(?:\.[\w-]+)+)"
"""A file in folders. What has no place in it (``..``, ``%2e``, ``//``) has no route either."""
_CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


class PageHandler(GuardedHandler):
    """A page that only loads what chatd itself serves."""

    def show(self, name: str, policy: str = _PAGE_POLICY) -> None:
        """Answer with a file of the web client, the server's limit of texts written into it."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", policy)
        text_chars = b"%d" % self.services.settings.limits.text_chars
        self.finish((STATIC / name).read_bytes().replace(b"{{ text_chars }}", text_chars))


class RootHandler(GuardedHandler):
    def get(self) -> None:
        self.redirect("/docs")


class DocsHandler(PageHandler):
    """Swagger UI."""

    def get(self) -> None:
        self.show("docs.html")


class ChatHandler(PageHandler):
    """The web client. A token in the query is for the page's script, never for the server."""

    def get(self) -> None:
        self.show("chat.html")


class DocumentHandler(GuardedHandler):
    """A generated document, made once at start."""

    def initialize(self, services: Services, document: bytes = b"") -> None:
        super().initialize(services)
        self._document = document

    def get(self) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(self._document)


class AssetHandler(GuardedHandler, StaticFileHandler):
    """A file of the web client or of Swagger UI."""

    def initialize(self, services: Services, path: str) -> None:  # type: ignore[override]
        GuardedHandler.initialize(self, services)
        StaticFileHandler.initialize(self, path)

    def get_content_type(self) -> str:
        # The machine's own table of types may call a script anything; nosniff then stops it.
        suffix = Path(self.path).suffix
        return _CONTENT_TYPES.get(suffix) or super().get_content_type()

    def set_extra_headers(self, path: str) -> None:
        # Asked again each time, answered 304: an upgrade shows at once.
        self.set_header("Cache-Control", "no-cache")


def asset_routes(services: Services, documents: Mapping[str, bytes]) -> list[tuple[Any, ...]]:
    """Tornado's routes for files and generated documents."""
    swagger = r"/docs/assets/(swagger-ui\.css|swagger-ui-bundle\.js|favicon-32x32\.png)"
    return [
        (swagger, AssetHandler, {"services": services, "path": str(SWAGGER)}),
        (_STATIC_PATH, AssetHandler, {"services": services, "path": str(STATIC)}),
        *(
            (re.escape(path), DocumentHandler, {"services": services, "document": document})
            for path, document in documents.items()
        ),
    ]


ROUTES = [
    Route("/", RootHandler),
    Route("/docs", DocsHandler),
    Route("/chat", ChatHandler),
]
