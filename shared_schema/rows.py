"""What the rows of the two files look like in Python. Frozen; made by `from_row`, never changed.

The states are enums: their values are what the files hold.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields
from enum import StrEnum
from typing import Any, ClassVar, Self

from shared_schema import json_text
from shared_schema.clock import from_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged, InvalidValue

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "str": (str,), "str | None": (str, type(None))}

DRAFT = "draft"
"""The key in `session_state` of the answer that is being written: its end, a few times a second, for showing only. It
is gone with the end of the turn. Nothing depends on it; what is sent is a row of `messages_out`."""


class MessageInKind(StrEnum):
    CHAT = "chat"
    TASK = "task"
    AGENT = "agent"
    SYSTEM = "system"
    CONTROL = "control"


class MessageInStatus(StrEnum):
    """The host's copy of the agent's acknowledgement; everything but `pending` is final."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class MessageOutKind(StrEnum):
    CHAT = "chat"
    EDIT = "edit"
    REACTION = "reaction"
    CARD = "card"
    QUESTION = "question"
    SYSTEM = "system"


class AckStatus(StrEnum):
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class TurnStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FailureReason(StrEnum):
    """`turns.failure_reason`: why a turn did not complete. A closed list; the host takes anything else as `other`."""

    PROVIDER_ERROR = "provider_error"
    RATE_LIMITED = "rate_limited"  # the provider has had enough for now
    KEY_REFUSED = "key_refused"
    CONTEXT_TOO_LONG = "context_too_long"  # the conversation does not fit into the model's window
    MODEL_NOT_FOUND = "model_not_found"
    NETWORK = "network"
    REFUSED = "refused"  # the model will not, or is not allowed to
    TIMEOUT = "timeout"  # the turn took longer than `turn_seconds`
    BAD_INPUT = "bad_input"  # trying again cannot help
    STOPPED = "stopped"  # by order; without a reason a cancelled turn was given back, and is run again
    AGENT_DIED = "agent_died"
    OTHER = "other"

    @classmethod
    def of(cls, text: str | None) -> FailureReason | None:
        """The reason of a stored text; None for none. Version 1 of the contract wrote `agent died`."""
        if text is None:
            return None
        known = text.replace(" ", "_")
        return cls(known) if known in set(cls) else cls.OTHER


PROVIDER_BROKE = "the provider failed: "
"""How the sentence of a turn begins that ended with an unexpected exception: the agent's log has more of it."""


class DeliveryStatus(StrEnum):
    DELIVERED = "delivered"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


class AgentPhase(StrEnum):
    """`agent_state.state`: what the agent says it is doing."""

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"
    STOPPING = "stopping"


class DestinationType(StrEnum):
    MESSAGING_GROUP = "messaging_group"
    AGENT_GROUP = "agent_group"


class ControlTask(StrEnum):
    """`do` in the content of a `control` row: what the host wants of the provider, apart from the conversation."""

    TITLE = "title"
    SUMMARIZE = "summarize"
    REMEMBER = "remember"  # save to memory what is worth it; nothing is answered


class ContextKey(StrEnum):
    """The keys of `session_context`, written by the host before every wake."""

    CONTRACT_VERSION = "contract_version"  # integer
    GENERATION = "generation"  # integer: the only generation whose output is sent
    RUN = "run"  # integer that only grows: the present run; an agent of another one writes nothing more
    AGENT_GROUP = "agent_group"  # the agent's name
    PROVIDER = "provider"  # which provider produces the replies
    MODEL = "model"  # the provider's model, or empty
    FALLBACKS = "fallbacks"  # JSON list: the models that answer in its place, in order
    CONTEXT = "context"  # the context block, text for the prompt
    RESET_NOTE = "reset_note"  # told to the agent once, or empty
    RESUME = "resume"  # the provider's resume pointer, or empty
    MAX_BATCH = "max_batch"  # integer: messages in one turn
    TURN_SECONDS = "turn_seconds"  # number: a longer turn fails
    WITHDRAWN = "withdrawn"  # JSON list: the ids of turns that do not count any more
    ASK_BEFORE = "ask_before"  # JSON list: rules for calls of tools that wait for a yes
    SHARED = "shared"  # "1" when several people take part
    KIND = "kind"  # chat, heartbeat, schedule or agent
    MAX_TEXT = "max_text"  # integer: characters in one message that the host takes
    MAX_FILES = "max_files"  # integer: files with one message, 0 where the platform takes none
    MAX_FILE_BYTES = "max_file_bytes"  # integer: of one file
    TIME_ZONE = "time_zone"  # of the conversation, such as Europe/Berlin
    SAVE_MEMORY = "save_memory"  # "1" when the agent may save to memory before it sums up
    TOOL_SERVERS = "tool_servers"  # JSON object: the MCP servers of the agent group, or empty


class Row:
    """A frozen dataclass whose fields are the columns of a table."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]]  # what `dataclass` makes: the names of the fields

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Self:
        """The row type of a row with (at least) its columns."""
        return cls(*[row[name] for name in cls.__match_args__])


@dataclass(frozen=True, slots=True)
class Address(Row):
    """One place on one platform. `thread_id` is None outside threads."""

    channel_type: str
    platform_id: str
    thread_id: str | None = None


@dataclass(frozen=True, slots=True)
class MessageIn(Row):
    """A row of `inbound.db: messages_in`. `content` is JSON: `{"text": …, "files": [{"name", "path", "size"}]}`."""

    seq: int
    id: str
    kind: str
    timestamp: str
    generation: int
    trigger: int
    status: str
    tries: int
    process_after: str | None
    channel_type: str | None
    platform_id: str | None
    thread_id: str | None
    sender_id: str | None
    sender_name: str | None
    source_session_id: str | None
    content: str

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Self:
        """As for any row. Raises `FileDamaged` for values that are not what they should be."""
        # In a class with slots, a bare super() finds the wrong one.
        message = super(MessageIn, cls).from_row(row)  # noqa: UP008
        for name, types in _MESSAGE_TYPES:
            if not isinstance(getattr(message, name), types):
                raise FileDamaged(f"a message has no proper {name}")
        try:
            if message.process_after is not None:
                from_text(message.process_after)
        except InvalidValue as error:
            raise FileDamaged("a message has no proper process_after") from error
        return message

    @property
    def address(self) -> tuple[str | None, str | None, str | None]:
        """Where a reply to this message goes."""
        return (self.channel_type, self.platform_id, self.thread_id)

    @property
    def text(self) -> str:
        """The text of the content, empty when it has none."""
        return str(decode(self.content).get("text") or "")

    @property
    def traceparent(self) -> str | None:
        """The place of the message in a trace, as W3C's Trace Context has it; None where it has none."""
        said = decode(self.content).get("traceparent")
        return said if isinstance(said, str) else None


_MESSAGE_TYPES = tuple((field.name, _TYPES[str(field.type)]) for field in fields(MessageIn))


@dataclass(frozen=True, slots=True)
class MessageOut(Row):
    """A row of `outbound.db: messages_out`. `content` is JSON: `{"text": …, "files": ["name in outbox/<id>/"]}`."""

    seq: int
    id: str
    turn_id: str | None
    in_reply_to: str | None
    generation: int
    timestamp: str
    deliver_after: str | None
    kind: str
    destination: str | None
    channel_type: str | None
    platform_id: str | None
    thread_id: str | None
    content: str


@dataclass(frozen=True, slots=True)
class Ack(Row):
    """A row of `outbound.db: processing_ack`."""

    message_id: str
    status: str
    turn_id: str | None
    error: str | None
    status_changed: str


@dataclass(frozen=True, slots=True)
class Turn(Row):
    """A row of `outbound.db: turns`. Tokens and cost are totals of the turn.

    Version 2 of the file brought what begins with `generation`, version 3 what begins with `stop_reason`, version 4
    `fallback`.
    """

    id: str
    status: str
    started_at: str
    finished_at: str | None = None
    failure_reason: str | None = None
    provider: str | None = None
    model: str | None = None
    provider_session_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: float | None = None
    generation: int | None = None
    reasoning_tokens: int | None = None
    context_tokens: int | None = None
    context_window: int | None = None
    resume_refused: int = 0
    stop_reason: str | None = None  # why the last answer of the service ended, in its own word
    detail: str | None = None  # what the service said of a refusal, redacted
    fallback: str | None = None  # why another model than the agent group's answered: a sentence; `model` is that one


@dataclass(frozen=True, slots=True)
class AgentState(Row):
    """The row of `outbound.db: agent_state`."""

    state: str
    current_tool: str | None
    tool_deadline: str | None
    turn_id: str | None
    contract_version: int
    updated_at: str


@dataclass(frozen=True, slots=True)
class Destination(Row):
    """A row of `inbound.db: destinations`: a name under which the agent may send."""

    name: str
    display_name: str | None
    type: str
    channel_type: str | None
    platform_id: str | None
    agent_group_id: str | None


@dataclass(frozen=True, slots=True)
class Delivered(Row):
    """A row of `inbound.db: delivered`: what became of a message the agent wrote."""

    message_out_id: str
    status: str
    platform_message_id: str | None
    error: str | None
    attempts: int
    delivered_at: str


def encode(content: dict[str, Any]) -> str:
    """The JSON text of a content column: compact, non-ASCII as it is."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def decode(text: str) -> dict[str, Any]:
    """The object in a content column. Raises `FileDamaged` for anything that is not a JSON object within bounds.

    The bounds are those of `json_text`: what is taken here once is taken everywhere.
    """
    try:
        value = json_text.parse(text)
    except ValueError as error:
        raise FileDamaged("a content column is not JSON") from error
    if not isinstance(value, dict):
        raise FileDamaged("a content column is not a JSON object")
    return value
