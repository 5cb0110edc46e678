"""What a browser opens: pages, their files, the generated documents."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from chatd.app import App
from tests import documented
from tests.chat import Answer, Chat
from tests.raw import send_raw

chat = documented.chat

CHAT_PAGES = ("/chat", "/chat/user", "/group/python/connect")
TYPES = {
    ".js": ("text/javascript", "application/javascript"),
    ".css": ("text/css",),
    ".png": ("image/png",),
    ".svg": ("image/svg+xml",),
    ".json": ("application/json",),
}
_IMPORT = re.compile(
    r"""^(?:import\s*|(?:import|export)\b[^"';]*\bfrom\s*)["']([^"']+)["']""", re.MULTILINE
)


class Page(HTMLParser):
    """The addresses that a page loads by itself, and the code that is written into it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._in_code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_code = tag in ("script", "style")
        for name, value in attrs:
            if name == "src" or (name == "href" and tag == "link"):
                self.loads.append(value or "")
            elif name.startswith("on") or name == "style":
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        if self._in_code and data.strip():
            self.inline.append(data)


async def fetch(chat: Chat, path: str, *headers: str) -> Answer:
    """A file of any kind, its bytes read as text."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers]
    return await send_raw(chat.url, "\n".join(lines))


async def assets(chat: Chat, path: str) -> dict[str, Answer]:
    """All that a page loads, by itself or through its modules, by address."""
    page = Page((await chat.call("GET", path)).body)
    assert page.inline == []
    found: dict[str, Answer] = {}
    waiting = [address for address in page.loads if not address.startswith("data:")]
    while waiting:
        address = waiting.pop()
        if address not in found:
            assert not urlsplit(address).netloc, "a page loads nothing from elsewhere"
            found[address] = await fetch(chat, urljoin(path, address))
            if address.startswith("/static/") and address.endswith(".js"):
                modules = _IMPORT.findall(found[address].body)
                waiting += [urljoin(address, module) for module in modules]
    return found


def assert_nothing_there(answer: Answer, path: str) -> None:
    """One answer for all that can't be fetched: it must not tell why."""
    assert answer.status == 404, path
    assert answer.headers["Content-Type"] == "application/problem+json", path
    assert (answer.body["status"], answer.body["code"]) == (404, "not_found"), path
    assert answer.body["detail"] == "there is nothing at this address; see /docs", path


def policy(answer: Answer) -> dict[str, list[str]]:
    """The Content-Security-Policy, by directive."""
    directives = answer.headers["Content-Security-Policy"].split(";")
    return {words[0]: words[1:] for words in map(str.split, directives)}


async def test_the_root_leads_to_the_documentation(io_loop: Any, chat: Chat) -> None:
    answer = await chat.call("GET", "/")
    assert (answer.status, answer.headers["Location"]) == (302, "/docs")


async def test_every_page_loads_what_the_server_has_and_nothing_else(
    io_loop: Any, chat: Chat
) -> None:
    for path in ("/docs", *CHAT_PAGES):
        answer = await chat.call("GET", path)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        found = await assets(chat, path)
        assert {PurePath(address).suffix for address in found} >= {".js", ".css"}
        for address, asset in found.items():
            assert asset.status == 200, address
            media_type = asset.headers["Content-Type"].partition(";")[0]
            assert media_type in TYPES[PurePath(address).suffix], address
            assert asset.headers["X-Content-Type-Options"] == "nosniff"
            if address.endswith(".css"):
                assert not re.search(r"@import|url\(['\"]?(https?:)?//", asset.body), address


async def test_pages_may_run_and_reach_nothing_but_the_servers_own(
    io_loop: Any, chat: Chat
) -> None:
    for path in ("/docs", *CHAT_PAGES):
        found = policy(await chat.call("GET", path))
        assert found["default-src"] == ["'none'"]
        assert found["script-src"] == ["'self'"]
        assert found["frame-ancestors"] == ["'none'"]
        assert found["connect-src"] == ["'self'"]
        assert found["base-uri"] == found["form-action"] == ["'none'"]
        sources = [source for name in found for source in found[name]]
        assert not [source for source in sources if "//" in source or "*" in source]


async def test_the_documentation_shows_the_servers_own_document(io_loop: Any, chat: Chat) -> None:
    scripts = await assets(chat, "/docs")
    (script,) = [answer.body for path, answer in scripts.items() if path.startswith("/static/")]
    (url,) = re.findall(r'url: "([^"]+)"', script)
    document = await chat.call("GET", url)
    assert document.headers["Content-Type"].startswith("application/json")
    assert document.body["openapi"].startswith("3.1")


async def test_both_documents_are_served(io_loop: Any, chat: Chat) -> None:
    for path, kind in (("/openapi.json", "openapi"), ("/asyncapi.json", "asyncapi")):
        answer = await chat.call("GET", path)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.body[kind][0] == "3"


async def test_the_chats_doors_open_without_a_token_and_with_a_bad_one(
    io_loop: Any, chat: Chat
) -> None:
    ann = await chat.user("ann@example.org")
    for path in CHAT_PAGES:
        plain = await chat.call("GET", path)
        assert plain.status == 200
        for token in ("nonsense", ann.token, "<script>alert(1)</script>", ""):
            answer = await fetch(chat, f"{path}?Authorization={token}")
            assert (answer.status, answer.body) == (200, plain.body)
            assert not token or token not in str(answer.headers)


async def test_the_door_of_a_group_tells_nobody_whether_there_is_one(
    io_loop: Any, chat: Chat
) -> None:
    ann = await chat.user("ann@example.org")
    await ann.create("python")
    one, none = [await chat.call("GET", f"/group/{name}/connect") for name in ("python", "go")]
    assert (one.status, one.body) == (none.status, none.body)


async def test_nothing_but_the_clients_files_can_be_fetched(
    io_loop: Any, server: App, chat: Chat
) -> None:
    for path in (
        "/static/../app.py",
        "/static/..%2Fapp.py",
        "/static/%2E%2E/app.py",
        "/static/%2e%2e%2fapp.py",
        "/static/..%5Capp.py",
        "/static/....//app.py",
        "/static//etc/passwd",
        "/static/%2Fetc%2Fpasswd",
        "/static/..",
        "/static/.",
        "/static/",
        "/static",
        "/static/chat.js%00.html",
        "/static/nothing.js",
        "/docs/assets/../../app.py",
        "/docs/assets/..%2f..%2fapp.py",
        "/docs/assets/index.html",
        "/docs/assets/swagger-editor.js",
        "/docs/assets/",
        f"/static/{server.settings.key_path}",
        "/chatd/app.py",
        "/.git/config",
    ):
        answer = await fetch(chat, path)
        assert_nothing_there(answer, path)


async def test_a_file_that_has_not_changed_is_not_sent_again(io_loop: Any, chat: Chat) -> None:
    for path in await assets(chat, "/chat"):
        first = await fetch(chat, path)
        assert "no-cache" in first.headers["Cache-Control"]
        again = await fetch(chat, path, f"If-None-Match: {first.headers['Etag']}")
        assert (again.status, again.body) == (304, None)


# -- files in folders --------------------------------------------------------------------------

FILES = {
    "main.js": ("text/javascript; charset=utf-8", 'import "./views/log.js"; // …\n'),
    "views/log.js": ("text/javascript; charset=utf-8", "export const log = 1;\n"),
    "views/log-view_2.min.css": ("text/css; charset=utf-8", "p { margin: 0 }\n"),
}


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the web client's, for a server that starts later."""
    folder = tmp_path / "static"
    for name, (_, text) in FILES.items():
        file = folder / "chat" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr("chatd.handlers.pages.STATIC", folder)
    return folder


async def test_a_file_in_folders_is_served_as_what_it_is(
    io_loop: Any, static: Path, chat: Chat
) -> None:
    for name, (media_type, text) in FILES.items():
        path = f"/static/chat/{name}"
        first = await fetch(chat, path)
        assert (first.status, first.body) == (200, text)
        assert first.headers["Content-Type"] == media_type
        assert first.headers["X-Content-Type-Options"] == "nosniff"
        assert first.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert first.headers["Cache-Control"] == "no-cache"
        again = await fetch(chat, path, f"If-None-Match: {first.headers['Etag']}")
        assert (again.status, again.body) == (304, None)


async def test_folders_lead_nowhere_else(io_loop: Any, static: Path, chat: Chat) -> None:
    secret = static.parent / "secret.js"
    for hidden in (secret, static / "chat" / ".hidden.js", static / "chat" / ".git" / "x.js"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_text("secret")
    (static / "chat" / "link.js").symlink_to(secret)
    (static / "chat" / "folder.js").mkdir()
    for path in (
        "/static/chat/../../secret.js",
        "/static/chat/../main.js",
        "/static/chat/./main.js",
        "/static/chat/%2e%2e/%2e%2e/secret.js",
        "/static/chat/%2e%2e%2f%2e%2e%2fsecret.js",
        "/static/chat/..%2F..%2Fsecret.js",
        "/static/chat/..\\..\\secret.js",
        "/static/chat/..%5c..%5csecret.js",
        "/static/chat/....//....//secret.js",
        "/static/chat//main.js",
        "/static/chat%2Fmain.js",
        f"/static/chat/{secret}",
        f"/static/{secret}",
        "/static/chat/main.js/",
        "/static/chat/main.js%00.css",
        "/static/chat/main.js%0a",
        "/static/chat/.hidden.js",
        "/static/chat/.git/x.js",
        "/static/chat/link.js",
        "/static/chat/folder.js",
        "/static/chat/views/",
        "/static/chat/views",
        "/static/chat/",
        "/static/chat",
        "/static/chat/main.js/log.js",
        f"/static/chat/{'x' * 5000}.js",
        "/static/chat/nothing.js",
    ):
        assert_nothing_there(await fetch(chat, path), path)


# -- what a page is told -----------------------------------------------------------------------

TOLD = '<meta name="chatd-text-chars" content="{}">'


@pytest.mark.parametrize(
    "limit",
    [
        4000,
        pytest.param(123, marks=pytest.mark.settings(limits__text_chars=123)),
        pytest.param(0, marks=pytest.mark.settings(limits__text_chars=0)),
    ],
)
async def test_the_chats_pages_tell_the_servers_limit_of_texts(
    io_loop: Any, static: Path, chat: Chat, limit: int
) -> None:
    (static / "chat.html").write_text(TOLD.format("{{ text_chars }}"))
    for path in CHAT_PAGES:
        assert (await chat.call("GET", path)).body == TOLD.format(limit)


async def test_a_page_that_asks_for_nothing_is_served_as_it_is(
    io_loop: Any, static: Path, chat: Chat
) -> None:
    (static / "chat.html").write_text("<p>{{ … }}")
    for path in CHAT_PAGES:
        assert (await chat.call("GET", path)).body == "<p>{{ … }}"


async def test_no_page_shows_what_should_have_been_filled_in(io_loop: Any, chat: Chat) -> None:
    for path in ("/docs", *CHAT_PAGES):
        assert "{{" not in (await chat.call("GET", path)).body
