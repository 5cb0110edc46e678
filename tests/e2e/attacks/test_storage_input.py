"""Attacks on the storage: operators of MongoDB, SQL, patterns and wildcards in every field.

What a database or a bus might take for more than a text is stored as it is, or refused before
anything is asked; and nobody is shown what is others'.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.chat import Answer, Chat, Json, Socket, User
from tests.conftest import DURABLE
from tests.e2e.attacks.well import serving
from tests.e2e.server import Server

OPERATORS: tuple[Json, ...] = (
    {"$ne": ""},
    {"$regex": ".*"},
    {"$where": "sleep(10000)"},
    {"$in": ["ann@example.org"]},
    {"$function": {"body": "return 1", "args": [], "lang": "js"}},
    {"": ""},
)
TEXTS = (
    '{"$ne": ""}',
    "$where",
    "$$ROOT.text",
    "{$gt: ''}",
    "'; DROP TABLE messages; --",
    '" OR ""="',
    "1); DELETE FROM users WHERE (1=1",
    "' UNION SELECT password_hash FROM users --",
    "?1 :name @name $name %s {0}",
    "\\",
    "\\x00 \\u0000",
    "%",
    "_",
    ".*",
    "[a-z]+$",
    "(((((",
    "(a+)+$",
    "chat.> chat.* # +/#",
    "../../etc/passwd",
    "\r\n.\r\nQUIT\r\n",
    "=cmd|' /C calc'!A0",
    "\ufeff\u200b\u202e\u2028\x7f\x1b[2J",
)
PATTERNS = (
    *("%", "_", "%%", "a%", "_nn", "\\", "\\%", "ann\\", ".", ".*", "^a", "a.n", "[a-z]", "a|b"),
    *("(", "(?i)A", "\\w", "$", "^", "*", "ann*", "?", "a?", "#", ">", "+", "{", "'", '"', "--"),
    *("';--", "$ne", '{"$ne":""}', "\U0010ffff", "a\U0010ffff"),
)
EMAILS = (
    "%@example.org",
    "_nn@example.org",
    "*@example.org",
    "#@example.org",
    "+@example.org",
    "$ne@example.org",
    "a'or'1'='1@example.org",
    "{a}@example.org",
    "a|b@example.org",
    "a^n@example.org",
    "a?n@example.org",
    "a/b@example.org",
)
REFUSED_NAMES = (
    *("*", "**", "py*", "py>", ">", "#", "+", "%", "__", "$ne", "$where", "a$b", "a'b", 'a"b'),
    *("a b", "a;b", "a/b", "..", ".a", "-a", "_a", "a\\b", "a\0b", "a\nb", "py%", "py?", "a{b}"),
)
SECRET = "said between the two of them"


class Scene(NamedTuple):
    """Two who talk to each other, and one who would like to know."""

    chat: Chat
    ann: User
    bob: User
    eve: User


@pytest.fixture(scope="module", params=DURABLE)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    storage = "sqlite:chatd.db"
    if request.param == "mongo":
        database = f"chatd_{uuid.uuid4().hex}"
        storage = request.getfixturevalue("mongo_server").url(database)
    with serving(
        Server(tmp_path_factory.mktemp("input"), storage=storage, unlimited=True)
    ) as server:
        yield server


@pytest.fixture
async def scene(io_loop: Any, server: Server) -> AsyncIterator[Scene]:
    chat = Chat(server.url)
    ann, bob, eve = [await chat.user(f"{name}@example.org") for name in ("ann", "bob", "eve")]
    await ann.say(SECRET, user=bob.email)
    await ann.call("POST", "/v1/groups", {"name": "private", "title": "Of the two"})
    await bob.join("private")
    await ann.say(f"{SECRET}, in the group", group="private")
    yield Scene(chat, ann, bob, eve)
    chat.close()


def assert_refused(answer: Answer, *statuses: int) -> None:
    assert answer.status in (statuses or (422,)), answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    told = str(answer.body).lower()
    assert not [word for word in ("sqlite", "mongo", "syntax", "traceback") if word in told]


# -- operators ---------------------------------------------------------------------------------


async def test_an_operator_is_no_text_wherever_a_body_has_one(io_loop: Any, scene: Scene) -> None:
    """Seen to fail with ``text: str | dict | list`` for `NewMessage` in schemas.py."""
    _, ann, bob, eve = scene
    for operator in OPERATORS:
        for path, good in (
            ("/v1/auth/sign-in", {"email": bob.email, "password": "correct horse battery"}),
            ("/v1/auth/password", {"current": "correct horse battery", "new": "another horse"}),
            ("/v1/groups", {"name": "made", "title": "A title"}),
            (f"/v1/users/{bob.email}/messages", {"text": "a text", "client_id": "c1"}),
            ("/v1/groups/private/messages", {"text": "a text", "client_id": "c1"}),
            (f"/v1/users/{bob.email}/receipts", {"delivered_seq": 1, "read_seq": 1}),
        ):
            for field in good:
                for value in (operator, [operator], [good[field]]):
                    assert_refused(await ann.call("POST", path, {**good, field: value}))
            assert_refused(await ann.call("POST", path, {**good, **operator}))
            assert_refused(await ann.call("POST", path, {**good, "_id": operator}))
            assert_refused(await ann.call("POST", path, operator))
        for query in ("prefix[$ne]=x", "online[$ne]=x", "sort[$gt]=", "limit[$gt]=0", "$where=1"):
            assert_refused(await eve.call("GET", f"/v1/users?{query}"))
            assert_refused(await eve.call("GET", f"/v1/groups?{query}"))
        text = quote(json.dumps(operator))
        for path in ("/v1/groups?sort=", "/v1/groups?limit=", "/v1/users?online="):
            assert_refused(await eve.call("GET", path + text))
        for path in (
            f"/v1/users/{text}",
            f"/v1/users/{text}/messages",
            f"/v1/groups/{text}",
            f"/v1/groups/{text}/messages",
            f"/v1/messages/{text}",
        ):
            assert_refused(await eve.call("GET", path), 404)
    history = await ann.call("GET", f"/v1/users/{bob.email}/messages?after_seq=0&limit=200")
    assert {one["text"] for one in history.body["items"]} == {SECRET}
    assert (await ann.call("GET", "/v1/groups/made")).status == 404


async def test_an_operator_is_no_text_in_any_frame(io_loop: Any, scene: Scene) -> None:
    """Seen to fail with ``Text | dict`` for `Send`'s text, in frames.py."""
    _, ann, bob, eve = scene
    frames: tuple[Json, ...] = (
        {"type": "send", "to": ann.email, "text": "a text", "client_id": "c1"},
        {"type": "send", "group": "private", "text": "a text"},
        {"type": "received", "from": ann.email, "seq": 1},
        {"type": "read", "group": "private", "seq": 1},
        {"type": "typing", "to": ann.email},
        {"type": "resume", "epoch": "e", "cursors": [{"user": ann.email, "seq": 1}]},
        {"type": "auth", "token": eve.token},
    )
    async with bob.socket(replay="none") as b, eve.socket(replay="none") as e:
        asked = 0
        for frame in frames:
            for field in frame:
                for operator in OPERATORS:
                    await e.send(**{**frame, field: operator})
                    asked += 1
                    # Three in a row that are no frames at all would end the socket.
                    await e.send(type="ping")
                    await e.next("pong")
        cursors = ([{"user": {"$ne": ""}, "seq": 0}], [{"$ne": 0}], {"$ne": 0}, [{"seq": 0}])
        for wrong in cursors:
            await e.send(type="resume", epoch="e", cursors=wrong)
            asked += 1
        await e.settle()
        assert {one["code"] for one in e.of("error")} <= {"invalid", "bad_request"}
        assert len(e.of("error")) == asked
        await b.settle()
        assert not b.of("message", "typing", "receipt")
        assert SECRET not in str(e.frames)


# -- texts -------------------------------------------------------------------------------------


async def test_any_text_is_stored_as_it_is(io_loop: Any, scene: Scene) -> None:
    """Over REST and in frames, with itself for the client's id and for a title.

    Seen to fail with percent signs doubled, in sqlite's append.py.
    """
    _, ann, bob, _ = scene
    said = [f"said: {text}" for text in TEXTS]
    async with ann.socket(replay="none") as a, bob.socket(replay="none") as b:
        for text in said:
            client_id = "".join(one for one in text if one.isprintable())[:64]
            sent = await a.say(text, to=bob.email, client_id=client_id)
            assert (sent["type"], sent["client_id"]) == ("sent", client_id)
            again = await a.say(text, to=bob.email, client_id=client_id)
            assert (again["id"], again["duplicate"]) == (sent["id"], True)
            body = {"text": f"{text} (REST)", "client_id": f"{client_id[:60]} 2"}
            rest = await ann.call("POST", f"/v1/users/{bob.email}/messages", body)
            assert rest.status == 201
            assert rest.body["text"] == body["text"]
            found = await bob.call("GET", f"/v1/messages/{rest.body['id']}")
            assert found.body["text"] == body["text"]
        await b.settle()
        heard = [one["text"] for one in b.of("message")]
    wanted = [one for text in said for one in (text, f"{text} (REST)")]
    assert heard == wanted
    path = f"/v1/users/{ann.email}/messages?limit=200"
    assert [one["text"] for one in (await bob.call("GET", path)).body["items"]][-len(wanted) :] == (
        wanted
    )
    for number, text in enumerate(TEXTS):
        name, body = f"titled-{number}", {"name": f"titled-{number}", "title": f"Title: {text}"}
        made = await ann.call("POST", "/v1/groups", body)
        if made.status == 201:
            kept = await ann.call("GET", f"/v1/groups/{name}")
            assert kept.body["title"] == body["title"]
        else:
            assert_refused(made)
            assert any(not one.isprintable() for one in text)


# -- patterns ----------------------------------------------------------------------------------


async def everybody(user: User, path: str) -> list[str]:
    """All that a list has, page by page, by name."""
    names: list[str] = []
    after = ""
    while True:
        answer = await user.call("GET", f"{path}&limit=20{after and f'&after={after}'}")
        assert answer.status == 200, answer
        names += [one.get("email") or one["name"] for one in answer.body["items"]]
        if not answer.body.get("next"):
            return names
        after = answer.body["next"]


async def test_a_prefix_is_no_pattern(io_loop: Any, scene: Scene) -> None:
    """Seen to fail with no end to the range of a prefix, in sqlite's users.py."""
    chat, ann, _, eve = scene
    for email in EMAILS:
        await chat.user(email)
    for name in ("a.b", "axb", "a_b", "a-b", "a.", "a__"):
        assert (await ann.call("POST", "/v1/groups", {"name": name})).status in (201, 409)
    emails = await everybody(eve, "/v1/users?prefix=")
    groups = await everybody(eve, "/v1/groups?prefix=")
    assert set(EMAILS) <= set(emails)
    for pattern in (*PATTERNS, *EMAILS, "a.", "a_", "a.b", "a_b", "a-"):
        text = quote(pattern, safe="")
        for kind, names in (("users", emails), ("groups", groups)):
            wanted = [name for name in names if name.startswith(pattern.lower())]
            for more in ("", "&sort=messages") if kind == "groups" else ("",):
                found = await everybody(eve, f"/v1/{kind}?prefix={text}{more}")
                assert sorted(found) == sorted(wanted), (kind, pattern)


async def test_a_cursor_that_was_tampered_with_is_refused(io_loop: Any, scene: Scene) -> None:
    """Seen to fail with ``kind`` not given to msgspec in paging.py."""
    _, _, _, eve = scene
    cursors: tuple[object, ...] = (
        {"$gt": ""},
        ["a"],
        1,
        None,
        {"name": {"$ne": ""}, "count": 0},
        {"name": "a", "count": {"$gt": 0}},
        {"name": "a", "count": "0 OR 1=1"},
    )
    words = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in cursors]
    for word in (*words, "e30", "A", "====", "%ff", "nonsense", "../..", "%C3%A9"):
        for path in ("/v1/users", "/v1/groups", "/v1/me/groups", "/v1/me/conversations"):
            assert_refused(await eve.call("GET", f"{path}?after={word}"), 400, 422)


# -- names -------------------------------------------------------------------------------------


async def test_a_name_with_a_wildcard_is_one_name_or_none(io_loop: Any, scene: Scene) -> None:
    """Seen to fail with ``*`` allowed in `GROUP_NAME`, models.py."""
    chat, ann, bob, eve = scene
    for name in REFUSED_NAMES:
        assert_refused(await eve.call("POST", "/v1/groups", {"name": name}))
        text = quote(name, safe="")
        for method, what in (("POST", "join"), ("POST", "leave"), ("GET", "members")):
            assert_refused(await eve.call(method, f"/v1/groups/{text}/{what}"), 403, 404, 409)
        assert_refused(await eve.call("GET", f"/v1/groups/{text}/messages"), 403, 404)
        body = {"text": "to all"}
        assert_refused(await eve.call("POST", f"/v1/groups/{text}/messages", body), 403, 404)
        assert_refused(await eve.call("POST", f"/v1/users/{text}/messages", body), 404)
    stars = [await chat.user(email) for email in EMAILS]
    async with (
        ann.socket(replay="none") as a,
        bob.socket(replay="none") as b,
        eve.socket(replay="none") as e,
    ):
        asked = 0
        for name in (*REFUSED_NAMES, "%@example.com", "*@*", "ann@example.org,bob@example.org"):
            for target in ({"group": name}, {"to": name}):
                await e.send(type="send", text="to all", **target)
                await e.send(type="typing", **target)
                asked += 2
            for target in ({"group": name}, {"from": name}):
                await e.send(type="read", seq=1, **target)
                asked += 1
        await e.settle()
        errors = [one["code"] for one in e.of("error")]
        assert len(errors) == asked
        assert set(errors) <= {"invalid", "unknown_user", "unknown_group", "not_a_member"}
        for star in stars:
            sent = await e.say(f"for {star.email} alone", to=star.email)
            assert (sent["type"], sent["seq"]) == ("sent", 1)
            await e.send(type="typing", to=star.email)
            await only_theirs(star)
        for other in (a, b):
            await other.settle()
            assert not other.of("message", "typing", "receipt")


async def only_theirs(star: User) -> None:
    """What comes to an address that looks like a pattern is what was sent to it."""
    async with star.socket() as socket:
        assert [one["text"] for one in socket.of("message")] == [f"for {star.email} alone"]


# -- what is others' ---------------------------------------------------------------------------


async def test_nothing_that_is_asked_for_shows_what_is_others(io_loop: Any, scene: Scene) -> None:
    """Seen to fail with a message shown to whoever has its id, in messages.py."""
    _, ann, bob, eve = scene
    history = await ann.call("GET", f"/v1/users/{bob.email}/messages?after_seq=0&limit=1")
    message = history.body["items"][0]["id"]
    pair = quote("ann@example.org bob@example.org")
    paths = [
        f"/v1/messages/{message}",
        f"/v1/messages/{message.upper()}",
        f"/v1/messages/{message}%00",
        f"/v1/messages/{quote(message[:-1])}_",
        "/v1/messages/%25",
        "/v1/messages/' OR '1'='1".replace(" ", "%20"),
        f"/v1/users/{pair}/messages",
        f"/v1/users/{ann.email}%00/messages",
        f"/v1/users/{ann.email}%20{bob.email}/messages",
        f"/v1/users/{ann.email}/messages?before_seq=9007199254740991",
        f"/v1/users/{bob.email}/messages?after_seq=0",
        "/v1/groups/private/messages",
        "/v1/groups/private/members",
        "/v1/groups/%20PRIVATE%20/messages",
        "/v1/groups/priv%61te/messages",
        "/v1/groups/private%2Fmessages/messages",
        "/v1/me/conversations",
        "/v1/me/groups",
        "/v1/users?prefix=",
        "/v1/groups?prefix=",
    ]
    for path in paths:
        answer = await eve.call("GET", path)
        assert answer.status in (200, 403, 404, 422), path
        assert SECRET not in str(answer.body), path
    for path in paths[:9]:
        assert (await eve.call("GET", path)).status in (404, 422), path
    for seq in (-1, 2**53, 2**63, 2**64, "1%20OR%201=1", "1;--", "0x1", "1e3", "%D9%A1", "NaN", ""):
        path = f"/v1/users/{bob.email}/messages?after_seq={seq}"
        assert_refused(await ann.call("GET", path), 422)
        assert_refused(await ann.call("GET", f"/v1/users?limit={seq}"), 422)
    async with Socket(
        eve.chat.socket_url("/v1/ws", replay="resume"), {"Authorization": f"Bearer {eve.token}"}
    ) as e:
        hello = await e.next("hello")
        cursors = [
            {"user": name, "seq": 0} for name in ("%", "", f"{ann.email} {bob.email}", bob.email)
        ] + [{"group": name, "seq": 0} for name in ("private", "%", "*", "", "priv%")]
        await e.send(type="resume", epoch=hello["epoch"], cursors=cursors)
        await e.next("ready")
        assert SECRET not in str(e.frames)
