from __future__ import annotations

from ipaddress import ip_network

import pytest

from chatd.networks import UNKNOWN, client_address, is_among, is_loopback, place_of

PROXIES = tuple(map(ip_network, ("192.0.2.1", "10.0.0.0/8", "2001:db8::/32")))
PROXY, CLIENT = "192.0.2.1", "198.51.100.7"


@pytest.mark.parametrize("forwarded", ["", CLIENT, "10.0.0.1", f"{CLIENT}, 10.0.0.1", "nonsense"])
def test_who_is_no_listed_proxy_is_the_client(forwarded: str) -> None:
    assert client_address("203.0.113.9", forwarded, PROXIES) == "203.0.113.9"
    assert client_address(PROXY, forwarded, ()) == PROXY


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("", PROXY),
        (CLIENT, CLIENT),
        (f" {CLIENT}\t", CLIENT),
        (f"{CLIENT}, 10.0.0.1,10.0.0.2", CLIENT),
        (f"6.6.6.6, {CLIENT}, 10.0.0.1", CLIENT),
        (f"10.6.6.6, {CLIENT}, 10.0.0.1", CLIENT),
        ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("2001:DB9:0::7, 2001:db8::1", "2001:db9::7"),
        ("::ffff:198.51.100.7, ::ffff:10.0.0.1", CLIENT),
        (f"{CLIENT}:4711, 10.0.0.1:80", CLIENT),
        ("[2001:db9::7]:4711, [2001:db8::1]", "2001:db9::7"),
    ],
)
def test_from_the_right_the_first_that_is_no_listed_proxy_is_the_client(
    forwarded: str, client: str
) -> None:
    assert client_address(PROXY, forwarded, PROXIES) == client
    if forwarded:
        assert client_address(f"::ffff:{PROXY}", forwarded, PROXIES) == client


@pytest.mark.parametrize(
    "hop",
    [
        "",
        "nonsense",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "::1::",
        "[",
        "1.2.3.4:",
        ":80",
    ],
)
def test_who_stands_there_by_no_address_is_unknown(hop: str) -> None:
    for forwarded in (f"{CLIENT},{hop}", f"{CLIENT}, {hop}, 10.0.0.1"):
        assert client_address(PROXY, forwarded, PROXIES) == UNKNOWN


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (CLIENT, CLIENT),
        ("::ffff:198.51.100.7", CLIENT),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        (UNKNOWN, UNKNOWN),
        ("", ""),
    ],
)
def test_a_place_is_an_address_or_what_a_subscriber_has_of_ipv6(address: str, place: str) -> None:
    assert place_of(address) == place


def test_two_networks_of_ipv6_are_two_places() -> None:
    assert place_of("2001:db8:1:2::1") != place_of("2001:db8:1:3::1")


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::2", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("localhost", False),
        (UNKNOWN, False),
        ("", False),
    ],
)
def test_what_is_this_machine(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_an_address_is_among_networks_however_it_is_written() -> None:
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "2001:0DB8::1", PROXY):
        assert is_among(address, PROXIES)
    for address in ("11.0.0.1", "2001:db9::1", "nonsense", "", "10.0.0.0/8"):
        assert not is_among(address, PROXIES)
