"""What is said of a server whose certificate is not good, the same for reading and for sending."""

from __future__ import annotations

import ssl

from host.channels.protocol import ChannelUnavailable
from shared_schema.text import one_line

_LONGEST_REASON = 200


def bad_certificate(host: str, error: ssl.SSLCertVerificationError, setting: str) -> ChannelUnavailable:
    """The error of the protocol; `setting` is the one that names the server."""
    return ChannelUnavailable(
        f"the certificate that {host} shows is not good: {one_line(error.verify_message, _LONGEST_REASON)}",
        hint=f"set `{setting}` to the name in it, or let SSL_CERT_FILE name the file of its authority",
    )
