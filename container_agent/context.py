"""What the host says about a session with every wake: the rows of `session_context`, with their defaults.

Invariant: a context is complete and checked, or there is none. Provider, model, limits and generation come from here
and never from the environment, so that a change reaches a living agent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Self

from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, FileDamaged
from shared_schema.migrate import CONTRACT_VERSION
from shared_schema.rows import ContextKey


class IncompatibleContract(DumbwaiterError):
    """Host and agent are more than one version of the contract apart; only a change of version helps."""


@dataclass(frozen=True, slots=True)
class SessionContext:
    """`session_context`. `max_batch` is in messages, `turn_seconds` in seconds, `max_text` in characters of one
    message; text that is not set is empty.

    `withdrawn` are the ids of turns that do not count any more; `shared`: several people take part.
    """

    generation: int = 1
    agent_group: str = ""
    provider: str = "echo"
    model: str = ""
    fallbacks: tuple[str, ...] = ()
    ask_before: tuple[str, ...] = ()
    context: str = ""
    reset_note: str = ""
    resume: str = ""
    max_batch: int = 10
    turn_seconds: float = 1800.0
    withdrawn: tuple[str, ...] = ()
    shared: bool = False
    kind: str = "chat"
    tool_servers: str = ""
    time_zone: str = ""
    save_memory: bool = False
    max_text: int = 100_000
    max_files: int = 20
    max_file_bytes: int = 25 * 1024**2

    @classmethod
    def from_values(cls, values: Mapping[str, str | None]) -> Self:
        """The context of the table's keys and values; a missing or empty value means the default.

        Raises `FileDamaged` for a value that is not the number or list it should be, `IncompatibleContract` for a host
        that is more than one version away.
        """
        default = cls()

        def text(key: ContextKey, otherwise: str = "") -> str:
            return str(values.get(key.value) or otherwise)

        def number(key: ContextKey, otherwise: float) -> float:
            try:
                found = float(text(key, str(otherwise)))
            except ValueError:
                found = math.nan
            if math.isnan(found):
                raise FileDamaged(f"session_context has no number under '{key.value}'")
            return found

        def whole(key: ContextKey, otherwise: int) -> int:
            found = number(key, otherwise)
            if abs(found) >= 2**63:
                raise FileDamaged(f"session_context has too large a number under '{key.value}'")
            return int(found)

        def names(key: ContextKey) -> tuple[str, ...]:
            try:
                found = json.loads(text(key, "[]"))
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
                raise FileDamaged(f"session_context has no list of names under '{key.value}'")
            return tuple(found)

        version = whole(ContextKey.CONTRACT_VERSION, CONTRACT_VERSION)
        if abs(version - CONTRACT_VERSION) > 1:
            raise IncompatibleContract(
                f"the host speaks version {version} of the contract, and this agent version {CONTRACT_VERSION}",
                hint="use a host and an agent image at most one version apart",
            )
        return cls(
            generation=whole(ContextKey.GENERATION, default.generation),
            agent_group=text(ContextKey.AGENT_GROUP),
            provider=text(ContextKey.PROVIDER, default.provider),
            model=text(ContextKey.MODEL),
            fallbacks=names(ContextKey.FALLBACKS),
            ask_before=names(ContextKey.ASK_BEFORE),
            context=text(ContextKey.CONTEXT),
            reset_note=text(ContextKey.RESET_NOTE),
            resume=text(ContextKey.RESUME),
            max_batch=max(1, whole(ContextKey.MAX_BATCH, default.max_batch)),
            turn_seconds=number(ContextKey.TURN_SECONDS, default.turn_seconds),
            withdrawn=names(ContextKey.WITHDRAWN),
            shared=text(ContextKey.SHARED) == "1",
            kind=text(ContextKey.KIND, default.kind),
            tool_servers=text(ContextKey.TOOL_SERVERS),
            time_zone=text(ContextKey.TIME_ZONE),
            save_memory=text(ContextKey.SAVE_MEMORY) == "1",
            max_text=max(1, whole(ContextKey.MAX_TEXT, default.max_text)),
            max_files=whole(ContextKey.MAX_FILES, default.max_files),
            max_file_bytes=whole(ContextKey.MAX_FILE_BYTES, default.max_file_bytes),
        )
