"""What is said of a server that cannot be reached: why, in words, and what to look at.

Of a library's error only its kind is read. Its text may have an address with a token in it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from host.channels.protocol import ChannelUnavailable
from shared_schema.text import one_line

_LONGEST_REASON = 200
_DEEPEST = 8
NETWORK = "see whether this machine has a network and the address is right"


def unreachable(what: str, error: BaseException, hint: str = NETWORK) -> ChannelUnavailable:
    """The error of the protocol. `what` names the server, such as "Slack" or "mail.example.org:993"."""
    return ChannelUnavailable(f"{what} cannot be reached: {why(error)}", hint=hint)


def why(error: BaseException) -> str:
    """What went wrong, in words; the name of the error where nothing is known of it."""
    for each in _chain(error):
        match each:
            case socket.gaierror():
                return "its name is not known here"
            case ConnectionRefusedError():
                return "nothing takes connections there"
            case ssl.SSLCertVerificationError():
                return f"its certificate is not good ({one_line(each.verify_message, _LONGEST_REASON)})"
            case ssl.SSLError():
                return "it does not speak TLS there"
            case TimeoutError():
                return "it does not answer"
            case ConnectionResetError() | BrokenPipeError():
                return "it has dropped the connection"
            case OSError(strerror=str(reason)) if reason.isprintable():
                return reason[:_LONGEST_REASON]
    return type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what is behind it: libraries wrap that of the system, each in its own way."""
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while waiting and len(seen) < _DEEPEST:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            waiting += [
                getattr(each, "os_error", None),
                getattr(each, "reason", None),
                each.__cause__,
                each.__context__,
            ]
    # Those of the system first: a library's own are often an OSError, too, with a text in place of a reason.
    yield from sorted(seen, key=lambda each: type(each).__module__ not in ("builtins", "socket", "ssl"))
