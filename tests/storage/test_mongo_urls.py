"""URLs of MongoDB stores: what can't be used is refused in one sentence, what can is obeyed."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from pymongo.client_options import ClientOptions
from tornado.ioloop import IOLoop

from chatd.storage.mongo import MongoStorage
from chatd.storage.mongo.address import Address, address_of
from chatd.storage.mongo.connection import connect
from tests.mongod import free_port
from tests.storage.openings import PASSWORD, outage, refusal

HERE = "127.0.0.1:27017"
WITH_PASSWORD = f"mongodb://ann:{PASSWORD}@{HERE}"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("nosuch=1", "nosuch"),
        ("timeoutMS=abc", "timeoutms must be an integer"),
        ("timeoutMS=-1", "timeoutms must be greater than 0"),
        ("timeoutMS=1&timeoutMS=2", "timeoutMS"),
        ("tls=maybe", "'true' or 'false'"),
        ("ssl=true&tls=false", "conflicting values"),
        ("timeoutMS", "key=value"),
        ("compressors=nosuch", "nosuch"),
        ("authMechanism=NOSUCH", "authmechanism must be in"),
        ("directConnection=true&loadBalanced=true", "loadBalanced"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # they are errors in tests only
async def test_an_option_that_the_driver_does_not_know_or_take_is_refused(
    io_loop: IOLoop, query: str, why: str
) -> None:
    assert why in await refusal(f"{WITH_PASSWORD}/chat?{query}")


@pytest.mark.parametrize("character", ["@", ":", "/", "?", "%"])
async def test_a_password_that_needs_percent_encoding_and_lacks_it_is_refused(
    io_loop: IOLoop, character: str
) -> None:
    url = f"mongodb://ann:{PASSWORD}{character}{PASSWORD}@{HERE}/chat"
    assert "percent-encoded" in await refusal(url)


@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://ann:se/{PASSWORD}@{HERE}/chat",
        f"mongodb+srv://ann:se/{PASSWORD}@db.example.org/chat",
        f"mongodb://ann:1/{PASSWORD}@{HERE}/chat",
        f"mongodb://ann:1/{PASSWORD}@db",
        f"mongodb://ann:se?{PASSWORD}@{HERE}/chat",
        f"mongodb://ann:1?{PASSWORD}=1@{HERE}/chat",
        f"mongodb://ann:se%{PASSWORD}@{HERE}/chat?nosuch=1",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_of_a_password_that_is_not_encoded_nothing_is_repeated(
    io_loop: IOLoop, url: str
) -> None:
    """Seen to fail with the driver's sentence in front of what to do."""
    assert await refusal(url) == (
        "the URL of the MongoDB store can't be used: in user and password, each of % : / ? @ must"
        " be percent-encoded, as %25 or %40."
    )


@pytest.mark.parametrize("character", ["#", "[", "]", "+"])
def test_of_a_password_that_the_driver_reads_as_it_is_nothing_stands_in_the_address(
    character: str,
) -> None:
    url = f"mongodb://ann:{PASSWORD}{character}{PASSWORD}@{HERE}/chat"
    assert address_of(url) == Address(HERE, "chat")
    assert PASSWORD not in MongoStorage(url).promise


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        ("", "host"),
        (f"{HERE},", "host"),
        ("127.0.0.1:99999999", "Port must be an integer between 0 and 65535"),
        ("127.0.0.1:port", "Port"),
        ("::1", "'[' and ']'"),
        ("[::1", "'[' and ']'"),
        (f"{HERE},127.0.0.1:27018/chat?directConnection=true", "directConnection"),
    ],
)
async def test_hosts_that_are_none_are_refused(io_loop: IOLoop, hosts: str, why: str) -> None:
    assert why in await refusal(f"mongodb://ann:{PASSWORD}@{hosts}")


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        ("", "host"),
        ("chat.example.test:27017", "port"),
        ("a.example.test,b.example.test", "one"),
        ("127.0.0.1", "IP address"),
    ],
)
async def test_a_url_for_dns_names_one_host_without_a_port(
    io_loop: IOLoop, hosts: str, why: str
) -> None:
    assert why in await refusal(f"mongodb+srv://ann:{PASSWORD}@{hosts}/chat")


@pytest.mark.parametrize("name", ["a b", "a%20b", "a$b", "%24b", "a/b", "a%2Fb", "a%22b"])
async def test_a_database_name_with_characters_that_mongodb_forbids_is_refused(
    io_loop: IOLoop, name: str
) -> None:
    assert "database name" in await refusal(f"{WITH_PASSWORD}/{name}")


TLS_FILES = pytest.mark.parametrize("option", ["tlsCAFile", "tlsCertificateKeyFile"])


@TLS_FILES
async def test_a_file_for_tls_that_is_missing_is_named(
    io_loop: IOLoop, tmp_path: Path, option: str
) -> None:
    file = tmp_path / "nowhere.pem"
    assert str(file) in await refusal(f"{WITH_PASSWORD}/chat?tls=true&{option}={file}")


@TLS_FILES
async def test_a_file_for_tls_that_holds_no_certificate_is_refused(
    io_loop: IOLoop, tmp_path: Path, option: str
) -> None:
    file = tmp_path / "notes.pem"
    file.write_text("nothing of use\n")
    assert "certificate" in await refusal(f"{WITH_PASSWORD}/chat?tls=true&{option}={file}")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mongodb://db.example.org", Address("db.example.org", "chatd")),
        ("mongodb://db.example.org/", Address("db.example.org", "chatd")),
        ("mongodb://db.example.org?tls=true", Address("db.example.org", "chatd")),
        ("mongodb://db.example.org/?tls=true", Address("db.example.org", "chatd")),
        ("mongodb://ann:p%40ss@a:1,b:2/chat?tls=true", Address("a:1,b:2", "chat")),
        ("mongodb://a:1,[::1]:2/chat", Address("a:1,[::1]:2", "chat")),
        ("mongodb://a/ch%C3%A4t", Address("a", "chät")),
        ("mongodb+srv://ann:p%2Fss@db.example.org/chat", Address("db.example.org", "chat")),
    ],
)
def test_hosts_and_database_are_read_as_the_driver_reads_them(url: str, address: Address) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://{HERE}/chat?timeoutMS=250",
        f"mongodb://{HERE}/chat?TIMEOUTMS=250&w=1",
        f"mongodb://{HERE}/chat?w=1;timeoutMS=250",
        f"mongodb://{HERE}?timeoutMS=250",
        f"mongodb://ann:{PASSWORD}#@{HERE}/chat?timeoutMS=250",
    ],
)
async def test_the_url_may_set_how_long_a_call_waits(io_loop: IOLoop, url: str) -> None:
    client = connect(url)
    assert cast(ClientOptions, client.options).timeout == 0.25
    client.close()


async def test_a_port_where_nobody_listens_is_named_with_the_reason(io_loop: IOLoop) -> None:
    host = f"127.0.0.1:{free_port()}"
    sentence = await outage(f"mongodb://ann:{PASSWORD}@{host}/chat?timeoutMS=1000")
    assert sentence.startswith(f"MongoDB at {host} can't be reached: ")
    assert "Connection refused" in sentence
