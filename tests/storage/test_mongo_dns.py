"""Stores whose hosts DNS tells: ``mongodb+srv://``, MongoDB's "DNS Seed List Connection Format"."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dns.resolver
import pytest
from tornado.ioloop import IOLoop

from tests.certificates import Authority
from tests.dns_server import DnsServer
from tests.mongod import SET_NAME, Mongod, ReplicaSet
from tests.storage.openings import PASSWORD, opened, outage, refusal, talk


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsServer]:
    """Whom this process asks for names, until the test ends."""
    with DnsServer() as server:
        resolver = server.resolver()
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        dns.resolver.override_system_resolver(resolver)
        yield server
        dns.resolver.restore_system_resolver()


def publish(names: DnsServer, server: Mongod) -> None:
    """Let chat.example.test stand for this server, as MongoDB's "DNS Seed List" has it."""
    names.add("_mongodb._tcp.chat.example.test.", "SRV", f"0 0 {server.port} member.example.test.")
    names.add("member.example.test.", "A", "127.0.0.1")


async def test_dns_tells_the_members_and_the_name_of_a_replica_set(
    io_loop: IOLoop, names: DnsServer, mongo_server: ReplicaSet, mongo_url: str
) -> None:
    publish(names, mongo_server.members[0])
    names.add("chat.example.test.", "TXT", f'"replicaSet={SET_NAME}"')
    database = mongo_url.rpartition("/")[2].partition("?")[0]
    async with opened(f"mongodb+srv://chat.example.test/{database}?tls=false") as storage:
        await talk(storage)
        assert f"MongoDB at chat.example.test, database {database}" in storage.promise


async def test_the_name_of_the_set_that_dns_tells_is_insisted_on(
    io_loop: IOLoop, names: DnsServer, mongo_server: ReplicaSet
) -> None:
    publish(names, mongo_server.members[0])
    names.add("chat.example.test.", "TXT", '"replicaSet=other"')
    sentence = await outage("mongodb+srv://chat.example.test/chat?tls=false&timeoutMS=1000")
    assert "chat.example.test" in sentence
    assert '"other"' in sentence


@pytest.mark.mongod
async def test_whom_dns_names_is_spoken_to_over_tls_unless_the_url_says_otherwise(
    io_loop: IOLoop, names: DnsServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    certificate = authority.issue("member.example.test")
    server = Mongod(
        tmp_path / "server", "--tlsMode=preferTLS", f"--tlsCertificateKeyFile={certificate}"
    )
    try:
        await asyncio.to_thread(server.start)
        server.command("setParameter", tlsMode="requireTLS")
        publish(names, server)
        url = f"mongodb+srv://chat.example.test/chat?tlsCAFile={authority.certificate}"
        async with opened(url) as storage:
            await talk(storage)
    finally:
        server.close()


async def test_a_name_that_dns_does_not_know_is_told_and_may_be_known_later(
    io_loop: IOLoop, names: DnsServer
) -> None:
    sentence = await outage(f"mongodb+srv://ann:{PASSWORD}@chat.example.test/chat")
    assert sentence.startswith("MongoDB at chat.example.test can't be found: ")


async def test_a_name_that_leads_out_of_its_domain_is_refused(
    io_loop: IOLoop, names: DnsServer
) -> None:
    names.add("_mongodb._tcp.chat.example.test.", "SRV", "0 0 27017 member.example.org.")
    sentence = await refusal("mongodb+srv://chat.example.test/chat")
    assert "member.example.org" in sentence


async def test_while_dns_does_not_answer_the_loop_goes_on_and_in_the_end_it_is_told(
    io_loop: IOLoop, names: DnsServer
) -> None:
    names.fall_silent()
    url = f"mongodb+srv://ann:{PASSWORD}@chat.example.test/chat?connectTimeoutMS=500"
    waiting = asyncio.create_task(outage(url))
    await asyncio.sleep(0.01)
    assert not waiting.done(), "to ask has held up the loop"
    sentence = await waiting
    assert sentence.startswith("MongoDB at chat.example.test can't be found: ")


async def test_a_host_that_does_not_exist_is_named_with_the_reason(
    io_loop: IOLoop, names: DnsServer
) -> None:
    sentence = await outage(f"mongodb://ann:{PASSWORD}@no.example.test/chat?timeoutMS=1000")
    assert sentence.startswith("MongoDB at no.example.test can't be reached: ")
    assert "Name or service not known" in sentence
