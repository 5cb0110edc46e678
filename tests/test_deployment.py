from __future__ import annotations

import subprocess
import sys

import pytest

from chatd.deployment import (
    UnsafeDeployment,
    dangers,
    is_local,
    refuse_debugging,
    refuse_open_cluster,
)
from chatd.settings import Settings, SettingsError, load


def settings(**given: object) -> Settings:
    """With these; ``__`` stands for the dot."""
    return load(None, {}, {name.replace("__", "."): value for name, value in given.items()})


def found(**given: object) -> list[str]:
    """The dangers of these settings, in their order."""
    some = list(dangers(settings(**given)))
    assert all(danger.remedy for danger in some)
    return [danger.event for danger in some]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.0.0.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("chat.example.org", False),
        ("localhost.example.org", False),
    ],
)
def test_a_server_is_local_where_only_this_machine_can_connect(host: str, local: bool) -> None:
    assert is_local(settings(server__host=host)) is local


def test_the_defaults_are_sound() -> None:
    assert found() == []


def test_without_a_proxy_passwords_travel_readable() -> None:
    assert found(server__host="0.0.0.0") == ["server.no_tls"]
    assert found(server__host="0.0.0.0", server__trusted_proxies=["10.0.0.1"]) == []


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_who_trusts_everybody_has_no_limits(everybody: str) -> None:
    assert found(server__trusted_proxies=["10.0.0.1", everybody]) == ["server.everybody_is_trusted"]


def test_a_server_that_answers_for_any_host_is_open_to_rebinding() -> None:
    assert found(server__allowed_hosts=["chat.example.org", "*"]) == ["server.any_host_allowed"]
    assert found(server__allowed_hosts=["chat.example.org"]) == []


def test_a_token_for_metrics_is_long() -> None:
    assert found(metrics__token="q8f3mZt1RkW7yLx") == ["metrics.token_short"]
    assert found(metrics__token="q8f3mZt1RkW7yLx0") == []


def test_all_dangers_are_told_and_no_secret() -> None:
    given = settings(
        server__host="::",
        server__allowed_hosts=["*"],
        metrics__token="q8f3mZt1",
    )
    told = list(dangers(given))
    assert [one.event for one in told] == [
        "server.no_tls",
        "server.any_host_allowed",
        "metrics.token_short",
    ]
    assert "q8f3mZt1" not in str(told)


def test_who_is_being_debugged_serves_this_machine_only() -> None:
    refuse_debugging(settings(), debugging=True)
    refuse_debugging(settings(server__host="0.0.0.0"), debugging=False)
    with pytest.raises(UnsafeDeployment, match=r"^chatd does not serve on 0\.0\.0\.0 in Python's"):
        refuse_debugging(settings(server__host="0.0.0.0"), debugging=True)


def test_pythons_development_mode_is_debugging_too() -> None:
    code = (
        "from chatd.deployment import *; from chatd.settings import load;"
        "refuse_debugging(load(None, {}, {'server.host': '::'}), debugging=False)"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, check=False
    )
    assert "UnsafeDeployment: chatd does not serve on :: in" in done.stderr


# -- several servers -------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["memory:", "sqlite:chatd.db"])
def test_several_servers_need_one_store(storage: str) -> None:
    with pytest.raises(UnsafeDeployment, match="mongodb://"):
        refuse_open_cluster(settings(cluster__nats_url="nats://127.0.0.1", storage__url=storage))


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"cluster__nats_url": "nats://127.0.0.1:4222"}, False),
        ({"cluster__nats_url": "nats://localhost,nats://[::1]:4222"}, False),
        ({"cluster__nats_url": "nats://10.0.0.5:4222"}, True),
        ({"cluster__nats_url": "tls://nats.example.org"}, True),
        ({"cluster__nats_url": "nats://127.0.0.1,nats://10.0.0.5"}, True),
        ({"cluster__nats_url": "nats://10.0.0.5", "cluster__nats_token": "q8f3mZt1RkW7yLx"}, False),
        (
            {
                "cluster__nats_url": "nats://10.0.0.5",
                "cluster__nats_user": "chatd",
                "cluster__nats_password": "q8f3mZt1RkW7yLx",
            },
            False,
        ),
        ({"cluster__nats_url": "nats://10.0.0.5", "cluster__nats_nkey_file": "seed.nk"}, False),
        ({"cluster__nats_url": "tls://10.0.0.5", "cluster__nats_cert_file": "own.pem"}, False),
        ({"cluster__nats_url": "nats://10.0.0.5", "cluster__allow_open_nats": True}, False),
    ],
)
def test_a_nats_that_anybody_may_use_is_refused(given: dict[str, object], refused: bool) -> None:
    chosen = settings(storage__url="mongodb://db/chatd", **given)
    if refused:
        with pytest.raises(UnsafeDeployment, match="allow_open_nats"):
            refuse_open_cluster(chosen)
    else:
        refuse_open_cluster(chosen)


def test_who_is_alone_needs_nothing() -> None:
    refuse_open_cluster(settings())


@pytest.mark.parametrize(
    "url", ["localhost:4222", "http://localhost", "nats://", "nats://me:secret@host", "nats://a/b"]
)
def test_what_is_no_address_of_nats_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="nats://HOST:PORT") as got:
        settings(cluster__nats_url=url)
    assert "secret" not in str(got.value)
