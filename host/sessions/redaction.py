"""Phone numbers and ids as short hashes, for agents that need not know them. Pure.

The same number or id has the same hash everywhere in one install, so that an agent can tell people and chats apart; the
install's id is the key, which no agent knows. The host goes on by what an agent answers and by the names of
destinations, never by an id that an agent was shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from hashlib import blake2b

from shared_schema.dataclass import dataclass
from shared_schema.rows import Address, Destination

_BYTES = 5
_KEY_BYTES = 64  # the most that blake2b takes
# An international number of at least 7 digits, or any of at least 9 (a date has 8), with what people write in between.
_PHONE = re.compile(
    r"(?:(?:\+|\b00)(?:[ ().\-/]{0,2}[0-9]){7,15}|(?<![\w+])\(?[0-9](?:[ ().\-/]{0,2}[0-9]){8,14})(?!\w)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Redaction:
    """What agents see of people and chats. Without a `key` they see all; so they do on platforms `in_clear`."""

    key: str = ""
    in_clear: Collection[str] = ()

    def person(self, channel_type: str, sender_id: str | None) -> str | None:
        """Returns the id of a person on a platform, as an agent sees it."""
        if sender_id is None or not self._hides(channel_type):
            return sender_id
        return self._hash("user", f"{channel_type}:{sender_id}")

    def name(self, channel_type: str, name: str | None) -> str | None:
        """The name of a person or chat, as an agent sees it: without phone numbers."""
        if name is None or not self._hides(channel_type):
            return name
        return _PHONE.sub(lambda found: self._hash("phone", _digits(found[0])), name)

    def address(self, address: Address) -> Address:
        """The address of a chat, as an agent sees it."""
        if not self._hides(address.channel_type):
            return address
        return replace(address, platform_id=self.chat(address.channel_type, address.platform_id))

    def chat(self, channel_type: str, platform_id: str) -> str:
        """The id of a chat, as an agent sees it."""
        return self._hash("chat", f"{channel_type}:{platform_id}") if self._hides(channel_type) else platform_id

    def destination(self, destination: Destination) -> Destination:
        """A destination, as an agent sees it. Its name stays: that is how the agent sends there."""
        kind, place = destination.channel_type, destination.platform_id
        if kind is None or place is None:
            return destination
        shown = self.name(kind, destination.display_name)
        return replace(destination, platform_id=self.chat(kind, place), display_name=shown)

    def _hides(self, channel_type: str) -> bool:
        return bool(self.key) and channel_type not in self.in_clear

    def _hash(self, prefix: str, value: str) -> str:
        key = self.key.encode()[:_KEY_BYTES]
        return f"{prefix}-{blake2b(value.encode(), key=key, digest_size=_BYTES).hexdigest()}"


def _digits(number: str) -> str:
    """A number however it is written: +49 151, 0049 151 and 49-151 are the same."""
    return "".join(character for character in number if character.isdigit()).removeprefix("00")
