"""What ssh and TLS say that refuse a connection to an engine, as sentences with what to type. Pure."""

from __future__ import annotations

from shared_schema.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class RefusedWay:
    """Why there is no way to an engine, and what helps."""

    what: str
    hint: str


_AUTHORITY = RefusedWay(
    "the engine's certificate is not signed by the authority that is set",
    "give the certificate that signed it: `dumbwaiter node add NAME ADDRESS --authority ca.pem`",
)
_NAME = RefusedWay(
    "the engine's certificate is for another name than the one in its address",
    "write the name or address that stands in the certificate, or have one made for this one (subjectAltName)",
)
_EXPIRED = RefusedWay(
    "the engine's certificate has expired, or the clock of one of the machines is wrong",
    "have a new one made there; `date` shows each machine's clock",
)
_OURS = RefusedWay(
    "the engine refuses this host's certificate",
    "give one that its authority signed: `dumbwaiter node add NAME ADDRESS --certificate cert.pem --key key.pem`",
)
_WANTS_TLS = RefusedWay(
    "the engine wants TLS there",
    "give the certificates: `dumbwaiter node add NAME ADDRESS --authority ca.pem --certificate cert.pem --key key.pem`",
)
_NO_TLS = RefusedWay(
    "the engine speaks no TLS there",
    "start it with --tlsverify: without, everyone who reaches that port can become root on its machine",
)
_OF_TLS = (  # in this order: an engine that wants a certificate often just ends the connection
    ("hostname mismatch", _NAME),
    ("ip address mismatch", _NAME),
    ("certificate has expired", _EXPIRED),
    ("not yet valid", _EXPIRED),
    ("certificate verify failed", _AUTHORITY),
    ("certificate required", _OURS),
    ("bad certificate", _OURS),
    ("bad_certificate", _OURS),
    ("unknown ca", _OURS),
    ("unknown certificate", _OURS),
    ("http request to an https server", _WANTS_TLS),
    ("wrong version number", _NO_TLS),
    ("record layer failure", _NO_TLS),
)


_ENDED = RefusedWay(
    "the engine ends the connection, as one does that refuses this host's certificate",
    _OURS.hint,
)
_ENDS = ("eof occurred in violation of protocol", "connection reset by peer", "broken pipe")


def refusal_of_tls(words: str, *, is_tls: bool = True) -> RefusedWay | None:
    """The sentence for an error of a connection by TLS, or to an engine that wants it; None for another error.

    `is_tls`: the connection was one. An engine that refuses a certificate may end it before its reason is read.
    """
    lowered = words.lower()
    for part, refusal in _OF_TLS:
        if part in lowered:
            return refusal
    return _ENDED if is_tls and any(part in lowered for part in _ENDS) else None


def refusal_of_ssh(words: str, destination: str) -> RefusedWay:
    """The sentence for what ssh printed when it could not run the engine's command at `destination` (user@host)."""
    lowered = words.lower()
    if "host key verification failed" in lowered or "host key is known" in lowered:
        if "has changed" in lowered or "identification has changed" in lowered:
            return RefusedWay(
                f"{destination} has another ssh key than the one that is known",
                "where its machine was made anew, `ssh-keygen -R HOST` forgets the old one; where not, find out who "
                "answers there",
            )
        return RefusedWay(
            f"the ssh key of {destination} is not known here",
            f"type `ssh {destination} true` once as this user, compare the key, and say yes",
        )
    if "docker.sock" in lowered or "docker daemon" in lowered:
        return RefusedWay(
            f"{destination} can be reached, and its engine does not answer that user: {_last_line(words)}",
            f"`ssh {destination} docker version` shows it; the user must be in the group `docker` there",
        )
    if "permission denied" in lowered:
        return RefusedWay(
            f"{destination} accepts no ssh key of this user",
            f"`ssh-copy-id {destination}` puts one there; a key with a passphrase needs ssh-agent",
        )
    if "command not found" in lowered or "docker: not found" in lowered:
        return RefusedWay(
            f"{destination} has no command `docker`", "install docker there, for the user who is named in the address"
        )
    return RefusedWay(
        f"ssh does not reach {destination}: {_last_line(words) or 'it says nothing'}",
        f"`ssh {destination} docker version` shows it",
    )


def _last_line(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
