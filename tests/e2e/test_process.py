"""The server as a process: it starts, says what is wrong, survives a kill, drains."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatd.client import Client, Connected, Message, Receipt, SignedOut
from tests.chat import Chat, Socket
from tests.client.heard import listening, sign_in
from tests.e2e.conftest import MakeServer

ANN, BOB = "ann@example.org", "bob@example.org"


def chatd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "chatd.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_after_a_kill_everything_is_as_before(
    io_loop: Any, make_server: MakeServer, durable_url: str
) -> None:
    server = make_server(storage=durable_url, measured=True)
    url = server.start()
    signed_out = await sign_in(url, BOB)
    await signed_out.sign_out()
    await signed_out.close()
    async with listening(url, ANN) as ann, listening(url, BOB) as bob:
        await ann.client.create_group("python")
        await bob.client.join("python")
        await ann.client.send("to the group", group="python")
        await ann.client.send("to bob", to=BOB, client_id="c1")
        await ann.until(lambda: len(ann.of(Receipt)) == 2)
        before, epoch = await all_there_is(ann.client), ann.client.cursors.epoch
        heard = len(bob.of(Message))
        server.kill()
        await asyncio.to_thread(server.restart)

        assert await all_there_is(ann.client) == before
        again = await ann.client.send("to bob", to=BOB, client_id="c1")
        assert again.duplicate
        assert ann.client.cursors.epoch == epoch
        await bob.until(lambda: len(bob.of(Connected)) == 2)
        assert len(bob.of(Message)) == heard
        async with Client(url, signed_out.token) as nobody:
            with pytest.raises(SignedOut):
                await nobody.send("me again", to=ANN)


async def all_there_is(client: Client) -> list[object]:
    """What a user can ask for, but who is on line."""
    return [
        await client.history(group="python"),
        await client.history(user=BOB),
        [one async for one in client.groups(joined=True)],
        [one async for one in client.conversations()],
        [(one.email, one.delivered_seq, one.read_seq) async for one in client.members("python")],
    ]


async def test_sigterm_says_bye_stores_what_was_taken_and_exits_0(
    io_loop: Any, make_server: MakeServer, durable_url: str
) -> None:
    server = make_server(storage=durable_url, measured=True)
    chat = Chat(server.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as a:
        for number in range(500):
            await a.send(type="send", to=bob.email, text=str(number))
        server.process.send_signal(signal.SIGTERM)
        assert await a.closed() == 1001
        assert a.frames[-1]["type"] == "bye"
    assert server.process.wait(15) == 0
    acknowledged = {frame["id"] for frame in a.of("sent")}

    chat.url = server.start()
    async with bob.socket() as b:
        assert acknowledged <= {frame["id"] for frame in b.of("message")}
    chat.close()


async def test_a_second_signal_ends_the_process_at_once(
    io_loop: Any, make_server: MakeServer
) -> None:
    server = make_server(measured=True)
    chat = Chat(server.start())
    ann = await chat.user("ann@example.org")
    async with ann.socket() as stubborn:
        # It never answers the closing handshake, so the drain would take its time.
        stubborn.ws.transport.pause_reading()
        server.process.send_signal(signal.SIGTERM)
        while b"draining" not in server.log.read_bytes():
            assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(2) == -signal.SIGTERM
        stubborn.ws.transport.resume_reading()
    chat.close()


def test_a_second_server_on_one_store_is_refused(make_server: MakeServer) -> None:
    server = make_server(measured=True)
    server.start()
    data_dir = server.log.parent
    second = chatd("--port", "0", "--data-dir", str(data_dir))
    assert second.returncode == 1
    assert second.stderr.startswith("chatd: ")
    assert "chatd.db" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_is_named(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(measured=True)
    port = server.start().rpartition(":")[2]
    second = chatd("--port", port, "--data-dir", str(tmp_path / "other"))
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].startswith(f"chatd: can't serve on 127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (["--config", "nowhere.toml"], {}, ["nowhere.toml"]),
        (["--port", "99999"], {}, ["command line", "server.port"]),
        (["--storage", "postgres://x"], {}, ["storage.url", "sqlite:PATH"]),
        ([], {"CHATD_SERVER__PROT": "1"}, ["CHATD_SERVER__PROT", "CHATD_SERVER__PORT"]),
        ([], {"CHATD_LIMITS__REPLAY": "many"}, ["CHATD_LIMITS__REPLAY", "limits.replay"]),
    ],
)
def test_wrong_settings_exit_2_and_say_what_would_be_right(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], named: list[str]
) -> None:
    done = chatd("--data-dir", str(tmp_path / "data"), *arguments, **environment)
    assert done.returncode == 2
    assert all(word in done.stderr for word in named), done.stderr
    assert "Traceback" not in done.stderr


def test_a_settings_file_is_read_and_overridden(make_server: MakeServer, tmp_path: Path) -> None:
    file = tmp_path / "chatd.toml"
    file.write_text('[server]\nport = 1\n[logging]\nformat = "text"\n')
    server = make_server("--config", str(file), measured=True)
    assert not server.start().endswith(":1")
    server.terminate()
    assert "server.started" in server.log.read_text()
    assert not server.log.read_text().startswith("{")


def test_the_data_folder_is_the_owners_alone(make_server: MakeServer) -> None:
    server = make_server(measured=True)
    server.start()
    folder = server.log.parent
    for name in ("keys.json", "chatd.db"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


async def test_logs_are_json_lines_that_hold_no_secret(
    io_loop: Any, make_server: MakeServer
) -> None:
    server = make_server(environment={"CHATD_LOGGING__LEVEL": "debug"}, measured=True)
    chat = Chat(server.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.say("a very private text", user=bob.email)
    url = chat.socket_url("/v1/ws", Authorization=bob.token)
    async with Socket(url) as b:
        await b.next("ready")
        await b.send(type="send", to=ann.email, text=["a very private text"])
        await b.next("error")
    await chat.call("GET", f"/chat/user?Authorization={ann.token}")
    await chat.call("GET", f"/v1/users?prefix=secret&x={ann.token}", token=ann.token)
    await chat.call("POST", "/v1/auth/sign-in", {"email": ann.email, "password": "wrong horse"})
    server.terminate()
    log = server.log.read_text()
    for line in log.splitlines():
        if not line.startswith("chatd: "):
            assert {"time", "level", "event"} <= set(json.loads(line))
    for secret in (ann.token, bob.token, "correct horse", "wrong horse", "very private", "secret"):
        assert secret not in log
    chat.close()


async def test_a_dead_central_uuid_generator_stops_nobody(
    io_loop: Any, make_server: MakeServer
) -> None:
    server = make_server(
        environment={"CHATD_UUIDS__SOURCE": "http://127.0.0.1:9/uuids"}, measured=True
    )
    chat = Chat(server.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    sent = await ann.say("hello", user=bob.email)
    assert len(sent["id"]) == 36
    metrics = (await chat.call("GET", "/metrics")).body
    assert "chatd_uuid_fallbacks_total 0.0" not in metrics
    assert "chatd_uuid_pool_level 0.0" in metrics
    server.terminate()
    assert "uuid" in server.log.read_text()
    chat.close()
