"""Which servers find each other by a NATS, and what one must show to be let in there."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import nkeys  # type: ignore[import-untyped]
import pytest

from tests.certificates import Authority
from tests.e2e.cluster.conftest import MakeTeam
from tests.e2e.cluster.team import Team, neighbours, wait_until
from tests.e2e.server import Server
from tests.nats import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

SECRET: Final = secrets.token_urlsafe(24)
URL: Final = "CHATD_CLUSTER__NATS_URL"
CREDENTIAL: Final = "CHATD_CLUSTER__NATS_"


async def test_servers_with_other_keys_say_so(
    io_loop: Any, make_team: MakeTeam, nats: NatsServer, mongo_url: str, tmp_path: Path
) -> None:
    """Seen to fail with servers that don't compare."""
    team = make_team(nats, mongo_url, None, {"CHATD_AUTH__KEY_FILE": str(tmp_path / "other.json")})
    team.start()
    for seat in team.seats:
        wait_until(lambda seat=seat: seat.said("cluster.keys_differ"))


async def test_servers_of_another_database_hear_nothing(
    io_loop: Any, make_team: MakeTeam, nats: NatsServer, mongo_url: str
) -> None:
    """Seen to fail with the same subjects for all."""
    team = make_team(nats, mongo_url, None, None)
    (stranger,) = make_team(nats, mongo_url.replace("/chatd_", "/other_"), None).seats
    stranger.server.start()
    wait_until(lambda: stranger.said("cluster.connected"))
    team.start()
    assert [neighbours(seat) for seat in (*team.seats, stranger)] == [1, 1, 0]


class Entry(NamedTuple):
    """How a NATS is set up, and the settings of who is let in and of who is not."""

    conf: str
    right: dict[str, str]
    wrong: dict[str, str]
    tls: bool = False


def by_password(folder: Path) -> Entry:
    right = {"USER": "chatd", "PASSWORD": SECRET}
    conf = f'authorization {{ user: chatd, password: "{SECRET}" }}'
    return Entry(conf, right, {**right, "PASSWORD": "another"})


def by_token(folder: Path) -> Entry:
    return Entry(f'authorization {{ token: "{SECRET}" }}', {"TOKEN": SECRET}, {"TOKEN": "another"})


def by_nkey(folder: Path) -> Entry:
    seeds = [nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER) for _ in range(2)]
    files = [folder / f"{number}.nk" for number in range(2)]
    for file, seed in zip(files, seeds, strict=True):
        file.write_bytes(seed)
    public = nkeys.from_seed(bytearray(seeds[0])).public_key.decode()
    conf = f"authorization {{ users: [{{ nkey: {public} }}] }}"
    return Entry(conf, {"NKEY_FILE": str(files[0])}, {"NKEY_FILE": str(files[1])})


def by_certificate(folder: Path) -> Entry:
    ours, others = Authority(folder / "ours"), Authority(folder / "others")
    own, client = ours.issue("127.0.0.1"), ours.issue("chatd")
    conf = (
        f'tls {{ cert_file: "{own}", key_file: "{own}",'
        f' ca_file: "{ours.certificate}", verify: true }}'
    )
    right = {
        "CA_FILE": str(ours.certificate),
        "CERT_FILE": str(client),
        "CERT_KEY_FILE": str(client),
    }
    return Entry(conf, right, {**right, "CA_FILE": str(others.certificate)}, tls=True)


@pytest.mark.parametrize("made", [by_password, by_token, by_nkey, by_certificate])
async def test_who_is_let_in(
    io_loop: Any,
    make_team: MakeTeam,
    mongo_url: str,
    tmp_path: Path,
    made: Callable[[Path], Entry],
) -> None:
    """Who is not says so, and goes on alone.

    Seen to fail with credentials that are not shown.
    """
    entry = made(tmp_path)
    conf = tmp_path / "nats.conf"
    conf.write_text(entry.conf)
    nats = NatsServer(tmp_path / "nats", "-c", str(conf))
    nats.start()
    try:
        scheme = "tls" if entry.tls else "nats"
        url = {URL: f"{scheme}://127.0.0.1:{nats.port}"}
        environments = [
            {**url, **{CREDENTIAL + name: value for name, value in one.items()}}
            for one in (entry.right, entry.wrong)
        ]
        team = make_team(nats, mongo_url, *environments)
        for server in team.servers:
            server.start()
        team.open()
        right, wrong = team.seats
        wait_until(lambda: right.said("cluster.connected"))
        wait_until(lambda: wrong.said("cluster.unreachable"))
        assert not wrong.said("cluster.connected")
        assert (await team.out(0), await team.out(1)) == ([], ["nats"])
        await chats_on(team, 1)
        assert SECRET not in wrong.server.log.read_text()
    finally:
        nats.close()


async def chats_on(team: Team, at: int) -> None:
    """Two users of one server talk."""
    ann, bob = await team.user("ann", at), await team.user("bob", at)
    async with ann.socket() as a, bob.socket() as b:
        await a.say("hello", to=bob.email)
        assert (await b.next("message"))["text"] == "hello"


async def test_a_nats_without_tls_is_not_told_the_password(
    io_loop: Any, make_team: MakeTeam, nats: NatsServer, mongo_url: str, tmp_path: Path
) -> None:
    """Where TLS was asked for.

    Seen to fail with a client that takes what it gets.
    """
    ours = Authority(tmp_path / "ours")
    environment = {
        URL: f"tls://127.0.0.1:{nats.port}",
        CREDENTIAL + "CA_FILE": str(ours.certificate),
        CREDENTIAL + "TOKEN": SECRET,
    }
    (seat,) = make_team(nats, mongo_url, environment).seats
    seat.server.start()
    wait_until(lambda: seat.said("cluster.unreachable") or seat.said("cluster.connected"))
    assert "TLS" in json.dumps(seat.said("cluster.unreachable"))


@pytest.mark.parametrize("allowed", [False, True])
async def test_an_open_nats_elsewhere_is_refused(
    io_loop: Any, mongo_url: str, tmp_path: Path, allowed: bool
) -> None:
    """Unless it is said that nobody else reaches it.

    Seen to fail with a set-up that nobody looks at.
    """
    config = tmp_path / "chatd.toml"
    config.write_text(
        f'[cluster]\nnats_url = "nats://192.0.2.1:4222"\nallow_open_nats = {str(allowed).lower()}\n'
    )
    server = Server(tmp_path / "data", "--config", str(config), storage=mongo_url)
    try:
        if allowed:
            server.start()
            return
        server.launch()
        assert server.process.wait(20) == 1
        assert "whoever reaches this NATS could read and forge" in server.log.read_text()
    finally:
        server.close()
