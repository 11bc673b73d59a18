"""Which hosts and addresses may be reached: tables."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.gateway.policy import (
    NetworkDestination,
    is_listed,
    is_public,
    parse_destination,
    parse_rule,
    usable,
)
from shared_schema.errors import InvalidValue


@pytest.mark.parametrize(
    ("entry", "asked", "listed"),
    [
        ("example.com", "example.com:443", True),
        ("example.com", "example.com:80", True),
        ("example.com", "EXAMPLE.com.:443", True),
        ("Example.COM", "example.com:443", True),
        ("example.com", "example.com:22", False),
        ("example.com:8443", "example.com:8443", True),
        ("example.com:8443", "example.com:443", False),
        ("example.com", "www.example.com:443", False),
        ("example.com", "example.com.evil.org:443", False),
        ("example.com", "notexample.com:443", False),
        ("*.example.com", "www.example.com:443", True),
        ("*.example.com", "a.b.example.com:443", True),
        ("*.example.com", "example.com:443", False),
        ("*.example.com", "notexample.com:443", False),
        ("*.example.com:8080", "a.example.com:8080", True),
        ("10.0.0.0/8", "10.1.2.3:443", True),
        ("10.0.0.0/8", "11.1.2.3:443", False),
        ("127.0.0.1:8000", "127.0.0.1:8000", True),
        ("127.0.0.1:8000", "127.0.0.1:8001", False),
        ("127.0.0.1:8000", "localhost:8000", False),
        ("[::1]:8000", "[::1]:8000", True),
        ("fd00::/8", "[fd00::5]:443", True),
        ("127.0.0.1", "[::ffff:127.0.0.1]:443", False),
        ("8.8.8.8", "8.8.8.8:443", True),
        ("*.8.8.example", "8.8.8.8:443", False),
    ],
)
def test_a_list_names_what_it_says_and_nothing_more(entry: str, asked: str, listed: bool) -> None:
    assert is_listed([parse_rule(entry)], parse_destination(asked)) is listed


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.", "a b", "http://example.com", "example.com/x", "example.com:0", "example.com:70000", "example.com:",
     "*.*.com", "exa*mple.com", "10.0.0.1/8", "-a.com", "127.1", "0x7f.1", "2130706433", "user@host", "bücher.de",
     "a" * 64 + ".com", "[::1", "::1]:80", "a..b"],
)  # fmt: skip
def test_an_entry_that_cannot_be_right_is_an_error(entry: str) -> None:
    with pytest.raises(InvalidValue):
        parse_rule(entry)


@pytest.mark.parametrize(
    "asked",
    ["example.com", "example.com:", ":443", "a@example.com:443", "example.com:443:443", "example.com:99999", "a b:1",
     "[::1]", "[fe80::1%eth0]x:1", "", "example.com:\uff14\uff14\uff13", "*.example.com:443", "a/b:443"],
)  # fmt: skip
def test_a_destination_that_is_none_is_an_error(asked: str) -> None:
    with pytest.raises(InvalidValue):
        parse_destination(asked)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
     "100.64.0.1", "100.127.255.255", "0.0.0.0", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1",
     "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.88.99.1", "::", "::1",
     "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "2002:0808:0808::1",
     "2001::1", "2001:db8::1", "3fff::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
     "100::1", "2600::1%eth0"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_known(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_addresses_on_the_internet_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
    ):
        assert not is_public(address)


def test_a_listed_name_opens_the_way_only_to_public_and_listed_addresses() -> None:
    addresses = [ipaddress.ip_address(text) for text in ("127.0.0.1", "10.0.0.5", "8.8.8.8", "::ffff:10.0.0.5")]
    rules = [parse_rule("example.com"), parse_rule("10.0.0.0/24")]

    assert [str(address) for address in usable(rules, addresses, 443)] == ["10.0.0.5", "8.8.8.8"]
    assert [str(address) for address in usable(rules, addresses, 8080)] == ["8.8.8.8"]


@pytest.mark.parametrize("entry", ["64:ff9b::/96", "[64:ff9b::/96]:80", "64:ff9b::a9fe:a9fe"])
def test_what_a_translator_makes_of_ipv4_is_judged_as_ipv4_whatever_is_listed(entry: str) -> None:
    rules = [parse_rule("example.com"), parse_rule(entry)]
    metadata, public = (ipaddress.ip_address(f"64:ff9b::{text}") for text in ("169.254.169.254", "1.1.1.1"))

    assert usable(rules, [metadata, public], 80) == [public]
    assert usable([*rules, parse_rule("169.254.0.0/16")], [metadata], 80) == [metadata]
    for asked in ("[64:ff9b::1.1.1.1]:80", "[64:ff9b::a9fe:a9fe]:80"):
        assert not is_listed(rules, parse_destination(asked))


@given(st.text(max_size=40))
def test_no_text_breaks_the_readers(text: str) -> None:
    for read in (parse_rule, parse_destination):
        try:
            read(text)
        except InvalidValue:
            continue


def test_a_destination_is_shown_as_it_is_written() -> None:
    assert str(NetworkDestination("::1", 80)) == "[::1]:80"
    assert str(parse_destination("Example.com", 80)) == "example.com:80"
