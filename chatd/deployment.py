"""What is dangerous about the way a server is set up: refused, or warned of at start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from chatd.settings import Settings

_SHORT_SECRET: Final = 16
"""Characters; fewer can be guessed by who may ask as often as they like."""


class UnsafeDeployment(Exception):
    """A set-up that would expose what chatd keeps; the sentence says what and what to do."""


class Danger(NamedTuple):
    """What is risky and yet the owner's to decide: an event for the log, and its remedy."""

    event: str
    remedy: str


def is_local(settings: Settings) -> bool:
    """Whether only this machine can connect."""
    return _is_loopback(settings.server.host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_debugging(settings: Settings, *, debugging: bool) -> None:
    """`UnsafeDeployment` where others can reach a server that is being debugged."""
    if (debugging or sys.flags.dev_mode) and not is_local(settings):
        raise UnsafeDeployment(
            f"chatd does not serve on {settings.server.host} in Python's development mode, whose"
            " logs may show what users write: start it without -X dev, PYTHONDEVMODE and"
            " PYTHONASYNCIODEBUG, or on 127.0.0.1"
        )


def refuse_open_cluster(settings: Settings) -> None:
    """`UnsafeDeployment` where servers can't work together, or anybody could join them."""
    cluster = settings.cluster
    if cluster.nats_url is None:
        return
    if not settings.storage.url.startswith("mongodb"):
        raise UnsafeDeployment(
            "several servers need one store that all of them reach: set storage.url to a"
            " mongodb:// URL, or leave cluster.nats_url out"
        )
    credentials = (cluster.nats_user, cluster.nats_token, cluster.nats_nkey_file)
    if any(credentials) or cluster.nats_cert_file is not None or cluster.allow_open_nats:
        return
    hosts = [urlsplit(one.strip()).hostname or "" for one in cluster.nats_url.split(",")]
    if not all(map(_is_loopback, hosts)):
        raise UnsafeDeployment(
            "whoever reaches this NATS could read and forge what servers tell each other: give"
            " cluster.nats_user, nats_token, nats_nkey_file or nats_cert_file, or say"
            " cluster.allow_open_nats = true where nobody else reaches it"
        )


def dangers(settings: Settings) -> Iterator[Danger]:
    """What an administrator should look at, most dangerous first."""
    server, token = settings.server, settings.metrics.token
    if not is_local(settings) and not server.trusted_proxies:
        yield Danger(
            "server.no_tls",
            "passwords and tokens travel readable by all: put a proxy that speaks TLS in front"
            " and list it in server.trusted_proxies, or serve on 127.0.0.1",
        )
    if any(network.prefixlen == 0 for network in server.trusted_proxies):
        yield Danger(
            "server.everybody_is_trusted",
            "anybody may claim any address, past every limit per address: list the addresses of"
            " your proxies in server.trusted_proxies",
        )
    if "*" in server.allowed_hosts:
        yield Danger(
            "server.any_host_allowed",
            "pages of other sites may reach chatd by DNS rebinding unless the proxy in front"
            " checks the Host header: name the hosts that people use in server.allowed_hosts",
        )
    if token is not None and len(token.get_secret_value()) < _SHORT_SECRET:
        yield Danger(
            "metrics.token_short",
            f"metrics.token can be guessed: give it {_SHORT_SECRET} random characters or more",
        )
