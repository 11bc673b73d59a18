"""What holds for all sessions of a host and is told to their agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from host.sessions.redaction import Redaction
from shared_schema.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Platform:
    """What a platform can do, as far as its channel says. `max_text` is characters in one message; None: not said.

    `mentions_need_ids`: people are mentioned by their ids, which agents must see for that.
    """

    max_text: int | None = None
    takes_files: bool = True
    mentions_need_ids: bool = False


@dataclass(frozen=True, slots=True)
class HostProfile:
    """`runtime` is the name of what runs agents, `timezone` that of chats without one, `save_memory` whether
    agents may save to memory what is worth it before a conversation is over, `platforms` by channel type. `is_traced`:
    each message is told with its place in a trace.

    What one message may have, in characters, files, and bytes of a file, comes from the settings.
    """

    runtime: str = ""
    timezone: str = "UTC"
    save_memory: bool = False
    max_text: int = 100_000
    max_files: int = 20
    max_file_bytes: int = 25 * 1024**2
    platforms: Mapping[str, Platform] = field(default_factory=dict)
    redaction: Redaction = field(default_factory=Redaction)
    is_traced: bool = False

    def platform(self, channel_type: str) -> Platform:
        """What is known of a platform."""
        return self.platforms.get(channel_type, Platform())
