"""Entries of allow-lists, and the names and addresses that agents want to reach."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from host.gateway.policy import Address, Rule, is_listed, parse_destination, parse_rule, usable
from shared_schema.errors import InvalidValue
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Entries = tuple[Sequence[str], Sequence[tuple[Network, int | None]]]


@contextmanager
def _allow_list(folder: Path) -> Iterator[Drive]:
    """Only a network that somebody wrote opens the way to an address that is not public, and only on its ports."""

    def drive(value: tuple[Entries, str, Sequence[Address]]) -> None:
        (texts, networks), authority, addresses = value
        rules = [rule for rule in map(_rule, texts) if rule is not None and rule.network is None]
        rules += [parse_rule(_written(network, port)) for network, port in networks]
        asked = parse_destination(authority, 443)
        for address in map(_arrives_at, usable(rules, addresses, asked.port)):
            assert _is_public(address) or _is_in(networks, address, asked.port), address
        if is_listed(rules, asked):
            try:
                assert _is_in(networks, _arrives_at(ipaddress.ip_address(asked.host)), asked.port)
            except ValueError:
                assert any(_names(text, asked.host) for text in texts)

    yield drive


def _rule(text: str) -> Rule | None:
    try:
        rule = parse_rule(text)
    except InvalidValue:
        return None
    assert rule.network is None or re.fullmatch(r"[0-9a-f.:/\[\]]+(%[^/]*)?(/\d+)?\]?(:\d+)?", text.strip().lower())
    return rule


def _written(network: Network, port: int | None) -> str:
    text = f"[{network}]" if network.version == 6 else str(network)
    return text if port is None else f"{text}:{port}"


def _is_in(networks: Sequence[tuple[Network, int | None]], address: Address, port: int) -> bool:
    return any(address in network and port in ((80, 443) if own is None else (own,)) for network, own in networks)


def _arrives_at(address: Address) -> Address:
    """Where a connection goes in a network with a translator (NAT64)."""
    translated = address.packed[:12] == bytes.fromhex("0064ff9b") + bytes(8)
    return ipaddress.IPv4Address(address.packed[12:]) if translated else address


def _is_public(address: Address) -> bool:
    """As Python's own tables have it, which are not the ones of the product."""
    if isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped is not None or address.sixtofour is not None or address.teredo is not None
    ):
        return False
    return address.is_global and not address.is_multicast


def _names(text: str, host: str) -> bool:
    name = text.strip().lower().rpartition(":")[0] if re.search(r":\d+$", text.strip()) else text.strip().lower()
    name = name.removesuffix(".")
    return host.endswith(name[1:]) and host != name[2:] if name.startswith("*.") else host == name


HOSTS = st.sampled_from(
    (
        "localhost", "example.com", "*.example.com", "*.com", "a.example.com", "example.com.", "*", "*.", "127.1", "0",
        "0x7f.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.1", "[::1]", "::1", "[::ffff:127.0.0.1]",
        "169.254.169.254", "10.0.0.0/8", "[fe80::1%1]", "fe80::1%eth0", "xn--80ak6aa92e.com", "ex\u00e4mple.com",
        "\u2488.0.0.1", "127\u30020.0.1", "user@example.com", "example.com/x", "EXAMPLE.com", "_x.y",
        "\u212aube.example",
    )
)  # fmt: skip
PORTS = st.sampled_from(("", "", ":443", ":80", ":8443", ":0", ":65536", ":\u0663", ":-1", ":", ":443:443"))
ENTRIES = st.one_of(st.builds(str.__add__, HOSTS, PORTS), st.builds(str.__add__, HOSTS, PORTS), ANY_TEXT)
ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.sampled_from(
        tuple(
            map(
                ipaddress.ip_address,
                (
                    "127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0", "224.0.0.1",
                    "::1", "::", "fe80::1", "fe80::1%1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
                    "2002:a00:1::", "2001::1", "ff02::1", "2606:4700::1111", "1.1.1.1", "::127.0.0.1", "5f00::1",
                ),
            )
        )
    ),
)  # fmt: skip
NETWORKS = st.tuples(
    st.sampled_from(
        tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "127.0.0.1", "192.168.1.0/24", "fd00::/8", "::1", "fe80::/10")))
    ),
    st.sampled_from((None, None, 8443)),
)


REACH = (
    Target(
        "allow-list",
        _allow_list,
        st.tuples(
            st.tuples(st.lists(ENTRIES, max_size=3), st.lists(NETWORKS, max_size=2)),
            ENTRIES,
            st.lists(ADDRESSES, max_size=4),
        ),
        (InvalidValue,),
    ),
)
