"""Signatures of webhooks, as Standard Webhooks 1.0 (standardwebhooks.com) has them. Pure.

webhook-id          the same at every attempt to send one message
webhook-timestamp   seconds since 1970
webhook-signature   v1,<base64 of HMAC-SHA256 over "id.timestamp.body">, several separated by spaces
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from shared_schema.errors import DumbwaiterError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_PREFIX = "whsec_"
_LONGEST_TIMESTAMP = 12
_MOST_SIGNATURES = 8


class SignatureRefused(DumbwaiterError):
    """A request that is not signed by the secret, or not now."""


def key_of(secret: str) -> bytes:
    """The bytes of a secret: those of its text, or of the base64 behind `whsec_`. Raises `ValueError`."""
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret[len(_PREFIX) :], validate=True)
    except binascii.Error as error:
        raise ValueError(f"what stands behind {_PREFIX} in the secret is not base64") from error


def signed(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a request."""
    return {
        ID: message_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: f"v1,{_digest(secret, message_id, str(timestamp), body)}",
    }


def require_recent(headers: Mapping[str, str], now: float, tolerance: float) -> None:
    """Refuse a request that cannot be right with any body, before that is read. Raises `SignatureRefused`."""
    for name in (ID, TIMESTAMP, SIGNATURE):
        if not headers.get(name):
            raise SignatureRefused(f"the header {name} is missing")
    text = headers[TIMESTAMP]
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_TIMESTAMP):
        raise SignatureRefused(f"{TIMESTAMP} must be seconds since 1970")
    if (off := int(text) - now) and abs(off) > tolerance:
        when = "in the future" if off > 0 else "old"
        raise SignatureRefused(
            f"the request is {abs(off):.0f} s {when}, and {tolerance:.0f} s are allowed",
            hint="sign it with the time of now; if it was, compare the clocks of both machines",
        )


def require_signed(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> None:
    """Raises `SignatureRefused` unless one of the signatures is made with one of the secrets."""
    given = [each.partition(",")[2] for each in headers[SIGNATURE].split(" ")[:_MOST_SIGNATURES] if each[:3] == "v1,"]
    wanted = [_digest(secret, headers[ID], headers[TIMESTAMP], body) for secret in secrets]
    # Every pair is compared, and each in a time that does not tell how much of it was right.
    right = [hmac.compare_digest(one.encode(), other.encode()) for one in given for other in wanted]
    if not any(right):
        raise SignatureRefused(
            "the signature is not right",
            hint="it is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, with the channel's secret",
        )


def _digest(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    content = f"{message_id}.{timestamp}.".encode("utf-8", "replace") + body
    return base64.b64encode(hmac.digest(key_of(secret), content, hashlib.sha256)).decode()
