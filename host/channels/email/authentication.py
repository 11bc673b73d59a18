"""Who a mail is from: `Authentication-Results` (RFC 8601) of the server that received it, and nothing else. Pure.

Every sender can write any name into `From`. The receiving server has checked whether the domain of it stands behind
the mail, and puts what it found on top of the others; a server that follows the RFC takes away what claims to be its
own. So only the topmost header with that server's name counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from host.channels.email.addresses import domain_of
from shared_schema.dataclass import dataclass

_LONGEST = 8_000
_MOST_RESULTS = 50


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method's outcome: `dkim`, `pass`, {"header.d": "example.org"}. All in small letters."""

    method: str
    outcome: str
    properties: dict[str, str]


def is_from(address: str, headers: Sequence[str], authserv_id: str) -> bool:
    """Whether the server of that name says that a mail comes from the domain of an address.

    `headers` are all `Authentication-Results`, topmost first. DMARC says it for the domain in `From`; DKIM and SPF say
    it where they passed for that domain, DKIM also for one above it.
    """
    domain = domain_of(address)
    for header in headers:
        server, results = parse(header)
        if server == authserv_id.lower():
            return any(_aligned(result, domain) for result in results)
    return False


def parse(header: str) -> tuple[str, list[MethodResult]]:
    """The server's name, and what it found. What cannot be read is left out."""
    parts = _without_comments(header[:_LONGEST]).lower().split(";")
    server = parts[0].split()[0] if parts[0].split() else ""
    results: list[MethodResult] = []
    for part in parts[1 : _MOST_RESULTS + 1]:
        pairs = [word.partition("=") for word in part.split()]
        if not pairs or not pairs[0][0] or not pairs[0][1]:
            continue
        method, _, outcome = pairs[0]
        # Of a property that is given twice the first one counts: the sender may have written what is behind it.
        properties: dict[str, str] = {}
        for name, _, value in pairs[1:]:
            properties.setdefault(name, value.strip('"'))
        results.append(MethodResult(method.partition("/")[0], outcome, properties))
    return server, results


def _aligned(result: MethodResult, domain: str) -> bool:
    if result.outcome != "pass":
        return False
    if result.method == "dmarc":
        return _domain(result, "header.from") == domain
    if result.method == "dkim":
        signer = _domain(result, "header.d") or _domain(result, "header.i")
        return signer == domain or ("." in signer and domain.endswith(f".{signer}"))
    return result.method == "spf" and _domain(result, "smtp.mailfrom") == domain


def _domain(result: MethodResult, name: str) -> str:
    return result.properties.get(name, "").rpartition("@")[2].rstrip(".")


def _without_comments(text: str) -> str:
    """The text without comments in brackets, which may be nested, and without the quotes of quoted words.

    What is quoted could have a `;` or `=` in it; such characters, and spaces, become `_`.
    """
    kept: list[str] = []
    depth, is_quoted, is_escaped = 0, False, False
    for character in text:
        if is_escaped:
            is_escaped = False
            character = "_"
        elif character == "\\":
            is_escaped = True
            continue
        elif character == '"' and depth == 0:
            is_quoted = not is_quoted
            continue
        elif not is_quoted and character == "(":
            depth += 1
            continue
        elif not is_quoted and character == ")" and depth:
            depth -= 1
            kept.append(" ")
            continue
        if depth == 0:
            kept.append("_" if is_quoted and (character in ";=" or character.isspace()) else character)
    return "".join(kept)
