"""Codes that people type: capital letters and digits that cannot be taken for one another."""

from __future__ import annotations

import re
import secrets

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without I, O, 0 and 1: 32 symbols, five bits each."""

CLAIM_SYMBOLS = 8
APPROVAL_SYMBOLS = 6
_LONGEST_CLAIM = 40

_CODE = re.compile(r"[A-HJ-NP-Z2-9]{4}[- ]?[A-HJ-NP-Z2-9]{4}", re.IGNORECASE)


def new_claim_code() -> str:
    """A code of eight symbols with a digit among them, so that no word of a language looks like one."""
    while True:
        code = _drawn(CLAIM_SYMBOLS)
        if any(map(str.isdigit, code)):
            return code


def new_approval_code() -> str:
    """A code of six symbols."""
    return _drawn(APPROVAL_SYMBOLS)


def claimed(text: str) -> str | None:
    """Returns the code that a message is: eight symbols with a digit among them, or what stands behind `/claim`."""
    if len(text) > _LONGEST_CLAIM:
        return None
    word, _, rest = text.strip().partition(" ")
    if word.lower() == "/claim" and rest.strip():
        return rest
    return text if _CODE.fullmatch(text.strip()) is not None and any(map(str.isdigit, text)) else None


def normalised(text: str) -> str:
    """Returns a code as it is stored, from how a person typed it."""
    return text[:100].upper().replace("-", "").replace(" ", "")


def grouped(code: str) -> str:
    """A code of eight symbols as it is shown: ABCD-2345."""
    return f"{code[:4]}-{code[4:]}"


def same(one: str, other: str) -> bool:
    """Whether two codes are the same, in a time that does not say how much of them is."""
    return secrets.compare_digest(one.encode(), other.encode())


def _drawn(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))
