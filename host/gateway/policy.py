"""Which hosts an agent may reach. Pure: no name is looked up here.

Invariant: a connection goes only to an address that `usable` returned, and `usable` returns an address that is not
public only where an entry written as an address or a network contains it. A name alone never opens the way into the
host's own network, to no address it resolves to. An IPv6 address that stands for an IPv4 one (NAT64) is judged as that.

    code.example.org             this host, ports 443 and 80
    *.example.com        every host beneath it, not example.com itself
    example.com:8443     that port alone
    192.168.1.20:8080    an address, which may be private; also 10.0.0.0/8 and [fd00::1]:8080
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_PORTS = frozenset({80, 443})
_HINT = "write a host, *.domain, an address or a network, each perhaps with :port"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LONGEST_NAME = 253

# The special registries of IANA, RFC 6890 and its updates: what is not somewhere on the public internet.
_NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, with the metadata services of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")  # so neither mapped (::ffff:0:0/96) nor NAT64 nor local
_NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)  # Teredo and others, documentation, 6to4, documentation


@dataclass(frozen=True, slots=True)
class NetworkDestination:
    """Where a request wants to go: a host in lower case, or an address without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of an allow-list: a `name` (`.example.com` stands for everything beneath), or else a `network`."""

    name: str | None
    network: Network | None
    ports: frozenset[int]


def parse_rule(text: str) -> Rule:
    """An entry of an allow-list. Raises `InvalidValue`."""
    host, ports = _split_ports(text.strip().lower())
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return Rule(None, ipaddress.ip_network(bare), ports)
    except ValueError:
        pass
    name = host.removeprefix("*.").removesuffix(".")
    if not is_name(name) or _looks_like_address(name):
        raise InvalidValue(f"'{text}' cannot be an entry of an allow-list", hint=_HINT)
    return Rule(f".{name}" if host.startswith("*.") else name, None, ports)


def parse_destination(authority: str, default_port: int | None = None) -> NetworkDestination:
    """A host and port as requests write them. Raises `InvalidValue`, also for one with a user or password."""
    host, ports = _split_ports(authority.lower(), frozenset() if default_port is None else frozenset({default_port}))
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if address_of(bare) is None:
        bare = bare.removesuffix(".")
        if not is_name(bare):
            raise InvalidValue("the request names no host that could be one")
    if not ports:
        raise InvalidValue("the request names no port")
    return NetworkDestination(bare, *ports)


def is_name(text: str) -> bool:
    """Whether a text has the form of a host's name."""
    return len(text) <= _LONGEST_NAME and _NAME.fullmatch(text) is not None


def address_of(text: str) -> Address | None:
    """The address that a text is; None for a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_listed(rules: Iterable[Rule], destination: NetworkDestination) -> bool:
    """Whether an allow-list names this destination. An address is named only by entries written as one."""
    address = address_of(destination.host)
    if address is not None:
        return _is_within(rules, _translated(address), destination.port)
    return any(
        destination.port in rule.ports
        and (f".{destination.host}".endswith(rule.name) if rule.name.startswith(".") else destination.host == rule.name)
        and f".{destination.host}" != rule.name
        for rule in rules
        if rule.name is not None
    )


def usable(rules: Sequence[Rule], addresses: Iterable[Address], port: int) -> list[Address]:
    """Those of a listed host's addresses that may be connected to, in their order."""
    return [
        address
        for address in addresses
        if is_public(_translated(address)) or _is_within(rules, _translated(address), port)
    ]


def is_public(address: Address) -> bool:
    """Whether an address is somewhere on the internet, and not in a private network or this machine."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return (
        address.scope_id is None and address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)
    )


def _translated(address: Address) -> Address:
    """The IPv4 address that a translator of a network with IPv6 alone makes of one (NAT64, RFC 6052)."""
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def _is_within(rules: Iterable[Rule], address: Address, port: int) -> bool:
    return any(rule.network is not None and address in rule.network and port in rule.ports for rule in rules)


def _split_ports(text: str, default: frozenset[int] = DEFAULT_PORTS) -> tuple[str, frozenset[int]]:
    """The host and its port; a bare IPv6 address or network has none."""
    host, colon, digits = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return text, default
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65536):
        raise InvalidValue("a port is a number from 1 to 65535", hint=_HINT)
    return host, frozenset({int(digits)})


def _looks_like_address(name: str) -> bool:
    """Whether a resolver might take a name for a number: 127.1, 0x7f.1 (the last label decides, as in WHATWG URL)."""
    last = name.rpartition(".")[2]
    return last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
