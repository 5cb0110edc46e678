"""For those who run the server: health, readiness, metrics, and what the log never tells."""

from __future__ import annotations

import asyncio
import json
from io import StringIO
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chatd.app import App
from chatd.logs import capture_library_logs
from chatd.models import Draft, Outcome
from tests import documented
from tests.chat import PASSWORD, Answer, Chat, Json, eventually

chat = documented.chat


async def samples(chat: Chat, **more: Any) -> dict[str, float]:
    """Every number of the metrics, by its name and labels as they stand in the text."""
    answer = await chat.call("GET", "/metrics", **more)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sample.labels.items()): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.body)
        for sample in family.samples
    }


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.body["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


# -- health ------------------------------------------------------------------------------------


async def test_a_running_server_lives_and_is_ready(io_loop: Any, chat: Chat) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await chat.call("GET", path)
        assert (answer.status, answer.body) == (200, {"status": "ok"})


async def test_a_server_that_starts_is_not_ready(io_loop: Any, server: App, chat: Chat) -> None:
    server.state.ready = False
    assert_unavailable(await chat.call("GET", "/readyz"))
    assert (await chat.call("GET", "/healthz")).status == 200


async def test_a_server_whose_storage_is_out_is_not_ready(
    io_loop: Any, server: App, chat: Chat
) -> None:
    ann = await chat.user("ann@example.org")
    await server.storage.close()
    assert_unavailable(await chat.call("GET", "/readyz"))
    assert (await chat.call("GET", "/healthz")).status == 200
    for method, path, body in (
        ("GET", "/v1/users", None),
        ("POST", "/v1/groups", {"name": "python"}),
        ("POST", f"/v1/users/{ann.email}/messages", {"text": "hello"}),
    ):
        answer = await ann.call(method, path, body)
        assert_unavailable(answer)
        assert "Error" not in answer.body["detail"]
    sign_in = {"email": "bob@example.org", "password": PASSWORD}
    assert_unavailable(await chat.call("POST", "/v1/auth/sign-in", sign_in))


async def test_a_draining_server_is_not_ready_and_answers_what_it_took(
    io_loop: Any, server: App, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await chat.user("ann@example.org")
    released = asyncio.Event()
    append = server.storage.append
    arrived: list[Draft] = []

    async def held(batch: list[Draft]) -> list[Outcome]:
        arrived.extend(batch)
        await released.wait()
        return await append(batch)

    monkeypatch.setattr(server.storage, "append", held)
    url = f"/v1/users/{ann.email}/messages"
    taken = asyncio.create_task(ann.call("POST", url, {"text": "taken"}))
    await eventually(lambda: bool(arrived))
    draining = asyncio.create_task(server.drain())
    await eventually(lambda: server.state.draining)
    assert_unavailable(await chat.call("GET", "/readyz"))
    assert (await chat.call("GET", "/healthz")).status == 200
    assert_unavailable(await ann.call("POST", url, {"text": "too late"}))
    released.set()
    assert (await taken).status == 201
    await draining


async def test_health_needs_no_token_and_minds_none(io_loop: Any, chat: Chat) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await chat.call("GET", path, token="nonsense")).status == 200


# -- metrics -----------------------------------------------------------------------------------


async def test_what_happens_is_counted(io_loop: Any, chat: Chat) -> None:
    before = await samples(chat)
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await chat.user("ann@example.org")
    await chat.call("POST", "/v1/auth/sign-in", {"email": ann.email, "password": "wrong" * 3})
    async with bob.socket() as socket:
        await ann.say("hello", user=bob.email)
        await socket.next("message")
        await socket.send(type="ping")
        await socket.next("pong")
        during = await samples(chat)
    await ann.call("POST", f"/v1/users/{bob.email}/receipts", {"read_seq": 1})
    await ann.call("GET", "/v1/users/nobody@example.org")
    after = await samples(chat)
    for name, steps in (
        ("chatd_sign_ins_total result=created", 2),
        ("chatd_sign_ins_total result=ok", 1),
        ("chatd_sign_ins_total result=bad_credentials", 1),
        ("chatd_refusals_total code=bad_credentials", 1),
        ("chatd_refusals_total code=unknown_user", 1),
        ("chatd_messages_stored_total", 1),
        ("chatd_messages_delivered_total", 1),
        ("chatd_journal_batch_size_count", 1),
        ("chatd_connections_opened_total", 1),
        ("chatd_frames_received_total type=ping", 1),
        ("chatd_http_request_seconds_count method=POST status=201", 3),
        ("chatd_http_request_seconds_count method=GET status=404", 1),
    ):
        assert after.get(name, 0) - before.get(name, 0) == steps, name
    assert after["chatd_marks_stored_total"] > before["chatd_marks_stored_total"]
    assert during["chatd_connections"] == during["chatd_users_online"] == 1
    assert before["chatd_connections"] == before["chatd_users_online"] == 0


async def test_gauges_follow_the_connections(io_loop: Any, server: App, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket(), ann.socket(), bob.socket():
        found = await samples(chat)
        assert (found["chatd_connections"], found["chatd_users_online"]) == (3, 2)
    await eventually(lambda: not len(server.registry))
    found = await samples(chat)
    assert (found["chatd_connections"], found["chatd_users_online"]) == (0, 0)
    assert found["chatd_connections_closed_total code=1000"] == 3
    assert found["chatd_journal_waiting"] == 0
    assert found["chatd_uuid_pool_level"] > 0


async def test_no_client_can_make_up_new_series(io_loop: Any, chat: Chat) -> None:
    """A label for everything a client can send would fill the memory."""
    assert (await chat.call("MADEUP", "/healthz")).status == 405
    assert "MADEUP" not in (await chat.call("GET", "/metrics")).body


@pytest.mark.settings(metrics__token="watch me")
async def test_with_a_token_set_the_metrics_need_it(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    for token in (None, "watch", "watch mé", ann.token):
        answer = await chat.call("GET", "/metrics", token=token)
        assert (answer.status, answer.body["code"]) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await samples(chat, token="watch me"))["chatd_connections"] == 0


@pytest.mark.settings(server__trusted_proxies=["127.0.0.0/8"])
async def test_without_a_token_set_the_metrics_are_for_this_machine(
    io_loop: Any, chat: Chat
) -> None:
    for address in ("192.0.2.1", "unknown", "2001:db8::1", "192.0.2.1, 127.0.0.1"):
        answer = await chat.call("GET", "/metrics", headers={"X-Forwarded-For": address})
        assert (answer.status, answer.body["code"]) == (403, "forbidden"), address
    assert await samples(chat, headers={"X-Forwarded-For": "127.0.0.1"})
    assert await samples(chat)


@pytest.mark.settings(metrics__token="watch me", server__trusted_proxies=["127.0.0.0/8"])
async def test_with_the_token_the_metrics_can_be_read_from_anywhere(
    io_loop: Any, chat: Chat
) -> None:
    assert await samples(chat, token="watch me", headers={"X-Forwarded-For": "192.0.2.1"})


# -- the log -----------------------------------------------------------------------------------


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What a server started after this writes to standard error."""
    stream = StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


@pytest.mark.settings(logging__level="debug", logging__format="json")
async def test_the_log_has_every_request_and_no_secret(
    io_loop: Any, log: StringIO, server: App, chat: Chat
) -> None:
    release = capture_library_logs(server.log)
    ann = await chat.user("ann@example.org")
    wrong = {"email": ann.email, "password": "wrong-secret-password"}
    secrets = [PASSWORD, wrong["password"], ann.token, "secret-text", "secret-query", "secret-id"]
    refused = await chat.call("POST", "/v1/auth/sign-in", wrong)
    for path in ("/chat/user", "/group/python/connect", "/v1/ws", "/v1/users", "/nothing"):
        await ann.call("GET", f"{path}?Authorization={ann.token}&prefix=secret-query")
    await ann.call("GET", "/v1/users?prefix=secret-query")
    await ann.call("GET", "/v1/users?prefix=secret-query%FF")
    await ann.call("GET", "/v1/users?after=secret-query")
    url = f"/v1/users/{ann.email}/messages"
    await ann.call("POST", url, {"text": "secret-text", "client_id": "secret-id"})
    await ann.call("POST", url, raw=b'{"text": "secret-text')
    await ann.call("POST", url, {"text": ["secret-text"]})
    change = {"current": wrong["password"], "new": "wrong-secret-password"}
    await ann.call("POST", "/v1/auth/password", change)
    async with ann.socket() as socket:
        await socket.say("secret-text", to=ann.email, client_id="secret-id2")
        await socket.send(type="send", text="secret-text", to=["secret-text"])
        await socket.next("error")
        await socket.send(type="auth", token=ann.token + "x")
    async with ann.socket("/v1/ws", Authorization=ann.token) as socket:
        await socket.settle()
    release()
    written = log.getvalue()
    for secret in secrets:
        assert secret not in written
    lines = [json.loads(line) for line in written.splitlines()]
    _assert_logged(lines, "http.request", request_id=refused.body["request_id"], status=401)
    _assert_logged(lines, "http.request", method="GET", path="/v1/users", status=200)
    _assert_logged(lines, "sign_in.refused", code="bad_credentials", address="127.0.0.1")
    assert refused.headers["X-Request-ID"] == refused.body["request_id"]
    requests = [line["request_id"] for line in lines if line["event"] == "http.request"]
    assert len(set(requests)) == len(requests)


def _assert_logged(lines: list[Json], event: str, **facts: object) -> None:
    """Some line tells this event with these facts, and when it was."""
    found = [line for line in lines if line["event"] == event and facts.items() <= line.items()]
    assert found
    assert all(line["time"].endswith("Z") and line["level"] for line in found)
