"""What an OpenID Connect provider says of a person: a signed token, checked here. The one module that knows joserfc.

The rules are those of OpenID Connect Core 1.0, section 3.1.3.7. Only signatures with a key pair count: one with a
shared secret could be made by all who know it, and `none` is no signature.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
_KINDS = frozenset({"RSA", "EC", "OKP"})
_LEEWAY_SECONDS = 60
_LONGEST = 20_000
_MOST_KEYS = 50


class BadIdToken(Exception):
    """The token says nothing that can be relied on. The text is for the log; it has nothing of the token's."""


class KeyUnknown(BadIdToken):
    """It is signed with none of the keys that the provider named, when it was asked last."""


def verified(
    token: str, keys: Iterable[object], *, issuer: str, client_id: str, nonce: str, now: datetime
) -> dict[str, Any]:
    """The claims of an id token for this client, in answer to this `nonce`.

    `keys` are the entries of the provider's JWKS. Raises `BadIdToken`, `KeyUnknown`.
    """
    claims = _signed(token, keys)
    if claims.get("iss") != issuer:
        raise BadIdToken("it is of another issuer")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or client_id not in audiences:
        raise BadIdToken("it is for another client")
    if claims.get("azp", client_id) != client_id or (len(audiences) > 1 and "azp" not in claims):
        raise BadIdToken("it was given to another client")
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "replace"), nonce.encode()):
        raise BadIdToken("it answers another sign-in")
    seconds = now.timestamp()
    if _time(claims, "exp") + _LEEWAY_SECONDS <= seconds:
        raise BadIdToken("it is no longer valid")
    if _time(claims, "iat") - _LEEWAY_SECONDS > seconds or ("nbf" in claims and _time(claims, "nbf") > seconds + 60):
        raise BadIdToken("it is not valid yet; the clocks of host and provider may differ")
    return claims


def _signed(token: str, keys: Iterable[object]) -> dict[str, Any]:
    if len(token) > _LONGEST:
        raise BadIdToken("it is too long")
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError) as error:
        raise BadIdToken("it is no signed token") from error
    algorithm, wanted = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise BadIdToken("it is not signed with a key pair")
    candidates = list(_usable(keys, wanted, algorithm))
    for key in candidates:
        try:
            return dict(jwt.decode(token, key, algorithms=[algorithm]).claims)
        except (JoseError, ValueError, TypeError):
            continue
    if not candidates:
        raise KeyUnknown("it is signed with a key that the provider does not name")
    raise KeyUnknown("its signature is wrong")


def _usable(keys: Iterable[object], wanted: object, algorithm: str) -> Iterable[Any]:
    for number, each in enumerate(keys):
        if number >= _MOST_KEYS or not isinstance(each, Mapping):
            continue
        if str(each.get("kty")) not in _KINDS or each.get("use", "sig") != "sig":
            continue
        if each.get("alg", algorithm) != algorithm:
            continue
        if wanted is not None and each.get("kid") != wanted:
            continue
        try:
            yield jwk.import_key(dict(each))
        except (JoseError, ValueError, TypeError):  # one that this version does not know is none for us
            continue


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadIdToken(f"it does not say its `{name}`")
    return float(value)


def algorithms(offered: Collection[str]) -> list[str]:
    """Those of a provider's algorithms that count here."""
    return [each for each in ALGORITHMS if each in offered]
