"""What a request must be to be looked at, and what every answer says to the browser. Pure.

A page of another site, open in the same browser, can send requests here and even give its own name our address (DNS
rebinding). So the name in `Host` must be one of ours, and what changes anything must come from a page of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "connect-src 'self'",
        "manifest-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'",
    )
)  # fmt: skip
FILE_POLICY = "default-src 'none'; sandbox"
"""Of a file that a person or an agent has sent: nothing in it runs."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, forms of ours would come from the origin `null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
SAFE = frozenset({"GET", "HEAD"})
_OWN = frozenset({"127.0.0.1", "localhost", "[::1]"})


def names(address: str, further: Collection[str], url: str | None = None) -> frozenset[str]:
    """The names under which the page may be asked for, without a port."""
    listens = f"[{address}]" if ":" in address else address
    proxied = set() if url is None else {name_of(url.partition("://")[2])}
    return _OWN | proxied | {listens.lower()} | {name.lower() for name in further}


def name_of(host: str) -> str:
    """The name in `Host`, without its port; with one that is none, all of it."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() and not host.endswith("]") else host.lower()


def is_own_host(host: str, known: Collection[str]) -> bool:
    """Whether the header `Host` names us. Its port does not matter: a tunnel may have another one."""
    return name_of(host) in known


def is_own_origin(origin: str | None, fetch_site: str | None, own: str) -> bool:
    """Whether what changes something comes from a page of ours. Browsers say so in `Origin` and `Sec-Fetch-Site`."""
    if fetch_site not in (None, "same-origin"):
        return False
    return origin is not None and origin.lower() == own


def origin_of(host: str, *, is_tls: bool) -> str:
    """What a browser calls a page of ours in `Origin`."""
    return f"{'https' if is_tls else 'http'}://{host}".lower()
