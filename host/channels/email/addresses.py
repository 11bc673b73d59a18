"""Mail addresses and message ids, as far as they can be trusted to be such. Pure."""

from __future__ import annotations

import hashlib
import re

LONGEST_ADDRESS = 254
LONGEST_ID = 250
_LONGEST_HEADER = 2_000
_LONGEST_REFERENCES = 20_000
_MOST_REFERENCES = 100
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,189}")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{3,248}>")


def is_address(text: str) -> bool:
    """Whether this is a plain address, such as every common server hands out."""
    return len(text) <= LONGEST_ADDRESS and _ADDRESS.fullmatch(text) is not None


def domain_of(address: str) -> str:
    """What stands behind the `@`."""
    return address.rpartition("@")[2]


def sole_address(header: str) -> tuple[str, str] | None:
    """Name and address (in small letters) of a header that has exactly one; None for anything else.

    `ann@people.test`, `ann@people.test (Ann)`, `Ann <ann@people.test>` and `"Ann, of People" <ann@people.test>`. What
    two programs could read as two different addresses is none: the server that checked it may have meant the other one.
    """
    text = header.strip()
    if len(text) > _LONGEST_HEADER:
        return None
    if text.endswith(">"):
        name, _, address = text[:-1].rpartition("<")
        name, bare = name.strip(), _QUOTED.sub("", name)
        if any(character in bare for character in '<>,;:()"\\') or ("@" in bare and name.lower() != address.lower()):
            return None
        name = re.sub(r"\\(.)", r"\1", name[1:-1]) if name.startswith('"') else name
    else:
        address, _, name = text.partition(" (")
        if name and (not name.endswith(")") or any(character in name[:-1] for character in '<>,;:()"\\@')):
            return None
        name = name[:-1]
    return (name, address.lower()) if is_address(address) else None


def message_ids(header: str) -> list[str]:
    """The message ids in a header, oldest first: of a long list the first one and the last."""
    found = _MESSAGE_ID.findall(header[:_LONGEST_REFERENCES])
    return found if len(found) <= _MOST_REFERENCES else [found[0], *found[1 - _MOST_REFERENCES :]]


def own_message_id(key: str, address: str) -> str:
    """The message id of a mail of ours: the same for the same key, so that a second copy is known as one."""
    return f"<dw.{hashlib.sha256(key.encode()).hexdigest()[:40]}@{domain_of(address)}>"
