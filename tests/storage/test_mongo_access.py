"""Servers that don't let everybody in: users and their roles, TLS and its certificates."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from tornado.ioloop import IOLoop

from tests.certificates import Authority
from tests.mongod import Mongod, ReplicaSet
from tests.storage.openings import PASSWORD, opened, outage, refusal, talk
from tests.storage.samples import ANN

pytestmark = pytest.mark.mongod

ODD_PASSWORD: Final = f"{PASSWORD}@:/?#[]%+ &=ü"

# -- users -----------------------------------------------------------------------------------


class Guarded(NamedTuple):
    """A database of a server that lets only users in."""

    host: str
    database: Database[dict[str, Any]]

    def add(self, *roles: str) -> str:
        """Make a user with these roles on this database; the URL with which the user opens it."""
        self.database.command("createUser", "ann", pwd=ODD_PASSWORD, roles=roles)
        return self.url("ann", ODD_PASSWORD)

    def url(self, user: str, password: str) -> str:
        return f"mongodb://{user}:{quote(password, safe='')}@{self.host}/{self.database.name}"


@pytest.fixture(scope="module")
def administrator(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MongoClient[dict[str, Any]]]:
    """Who may do anything, at a replica set of one; its members ask each other for a key too."""
    folder = tmp_path_factory.mktemp("guarded")
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(32))
    server = ReplicaSet(folder, 1, f"--keyFile={key}", "--journalCommitInterval=5")
    try:
        server.start()
        # Whoever comes from this machine may make the first user, and then no more.
        server.primary().command("createUser", "root", pwd="root", roles=["root"])
        with MongoClient[dict[str, Any]](server.hosts, username="root", password="root") as client:
            yield client
    finally:
        server.close()


@pytest.fixture
def guarded(administrator: MongoClient[dict[str, Any]]) -> Guarded:
    address = administrator.address
    assert address is not None
    return Guarded(
        f"{address[0]}:{address[1]}", administrator.get_database(f"chat_{uuid.uuid4().hex}")
    )


@pytest.mark.parametrize("roles", [["dbOwner"], ["readWrite", "dbAdmin"]], ids=" and ".join)
async def test_a_user_with_the_roles_that_are_asked_for_may_make_use_and_change_the_store(
    io_loop: IOLoop, guarded: Guarded, roles: list[str]
) -> None:
    url = guarded.add(*roles)
    async with opened(url) as storage:
        await talk(storage)
    # As if an earlier version had made it.
    guarded.database.command("collMod", "users", validator={})
    async with opened(url) as storage:
        assert await storage.user_by_email(ANN)
    (users,) = guarded.database.list_collections(filter={"name": "users"})
    assert users["options"]["validator"]


@pytest.mark.parametrize(
    "roles",
    [
        pytest.param([], id="no role"),
        pytest.param(["read"], id="read"),
        pytest.param(["readWrite"], id="readWrite alone"),
        pytest.param(["dbAdmin"], id="dbAdmin alone"),
    ],
)
async def test_a_user_who_may_not_do_all_is_told_which_roles_it_takes(
    io_loop: IOLoop, guarded: Guarded, roles: list[str]
) -> None:
    sentence = await refusal(guarded.add(*roles))
    name = guarded.database.name
    assert f"MongoDB at {guarded.host} refuses: not authorized on {name}" in sentence
    assert f"dbOwner on {name}, or readWrite and dbAdmin" in sentence


async def test_whoever_names_no_user_is_told_that_it_takes_one(
    io_loop: IOLoop, guarded: Guarded
) -> None:
    sentence = await refusal(f"mongodb://{guarded.host}/{guarded.database.name}")
    assert guarded.host in sentence
    assert "requires authentication" in sentence
    assert f"dbOwner on {guarded.database.name}" in sentence


@pytest.mark.parametrize(
    ("user", "password"),
    [
        pytest.param("ann", f"{PASSWORD}!", id="wrong password"),
        pytest.param("bob", ODD_PASSWORD, id="unknown user"),
    ],
)
async def test_a_wrong_password_and_an_unknown_user_are_refused_alike(
    io_loop: IOLoop, guarded: Guarded, user: str, password: str
) -> None:
    guarded.add("dbOwner")
    sentence = await refusal(guarded.url(user, password))
    assert guarded.host in sentence
    assert "password" in sentence


async def test_a_user_of_another_database_gets_in_by_naming_it_and_else_is_told_how(
    io_loop: IOLoop, guarded: Guarded
) -> None:
    owner = {"role": "dbOwner", "db": guarded.database.name}
    name = uuid.uuid4().hex
    guarded.database.client.admin.command("createUser", name, pwd=ODD_PASSWORD, roles=[owner])
    url = guarded.url(name, ODD_PASSWORD)
    assert "authSource" in await refusal(url)
    async with opened(f"{url}?authSource=admin") as storage:
        await talk(storage)


# -- TLS -------------------------------------------------------------------------------------


class TlsServer(NamedTuple):
    """A server that takes TLS only; ``trust`` is what a URL needs to trust it."""

    server: Mongod
    trust: str

    def url(self, *options: str) -> str:
        return f"mongodb://{self.server.host}/chat?{'&'.join(['timeoutMS=1000', *options])}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "trusted")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("certificates") / "strange")


def tls_server(folder: Path, authority: Authority, *arguments: str) -> Iterator[TlsServer]:
    certificate = authority.issue("127.0.0.1")
    server = Mongod(
        folder,
        "--tlsMode=preferTLS",
        f"--tlsCertificateKeyFile={certificate}",
        "--journalCommitInterval=5",
        *arguments,
    )
    try:
        server.start()
        server.command("setParameter", tlsMode="requireTLS")
        yield TlsServer(server, f"tls=true&tlsCAFile={authority.certificate}")
    finally:
        server.close()


@pytest.fixture(scope="module")
def encrypted(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[TlsServer]:
    yield from tls_server(tmp_path_factory.mktemp("encrypted"), authority)


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsServer]:
    """A server that asks its clients for certificates, too."""
    folder = tmp_path_factory.mktemp("mutual")
    yield from tls_server(folder, authority, f"--tlsCAFile={authority.certificate}")


async def test_a_server_whose_authority_the_url_names_is_trusted(
    io_loop: IOLoop, encrypted: TlsServer
) -> None:
    async with opened(encrypted.url(encrypted.trust)) as storage:
        await talk(storage)


async def test_a_server_of_another_authority_is_not_trusted(
    io_loop: IOLoop, encrypted: TlsServer, stranger: Authority
) -> None:
    sentence = await outage(encrypted.url("tls=true", f"tlsCAFile={stranger.certificate}"))
    assert sentence.startswith(f"MongoDB at {encrypted.server.host} can't be reached: ")
    assert "certificate verify failed" in sentence


async def test_a_server_whose_certificate_is_for_another_host_is_not_trusted(
    io_loop: IOLoop, encrypted: TlsServer
) -> None:
    url = encrypted.url(encrypted.trust).replace("127.0.0.1", "localhost")
    sentence = await outage(url)
    assert "certificate is not valid for 'localhost'" in sentence


async def test_where_the_server_takes_tls_only_a_url_without_it_is_told_so(
    io_loop: IOLoop, encrypted: TlsServer
) -> None:
    sentence = await outage(encrypted.url())
    assert sentence.startswith(f"MongoDB at {encrypted.server.host} can't be reached: ")
    assert "tls=true" in sentence


async def test_where_the_server_knows_no_tls_a_url_with_it_is_told_so(
    io_loop: IOLoop, mongo_server: ReplicaSet
) -> None:
    sentence = await outage(f"mongodb://{mongo_server.hosts}/chat?timeoutMS=1000&tls=true")
    assert sentence.startswith(f"MongoDB at {mongo_server.hosts} can't be reached: ")
    assert "TLS" in sentence


async def test_a_server_that_asks_for_a_client_certificate_is_shown_one(
    io_loop: IOLoop, mutual: TlsServer, authority: Authority
) -> None:
    certificate = authority.issue("chatd.example.test")
    async with opened(mutual.url(mutual.trust, f"tlsCertificateKeyFile={certificate}")) as storage:
        await talk(storage)


async def test_whoever_shows_no_client_certificate_or_a_strange_one_is_told_that_it_takes_one(
    io_loop: IOLoop, mutual: TlsServer, stranger: Authority
) -> None:
    certificate = stranger.issue("chatd.example.test")
    without = mutual.url(mutual.trust)
    for url in (without, f"{without}&tlsCertificateKeyFile={certificate}"):
        assert "tlsCertificateKeyFile" in await outage(url)
