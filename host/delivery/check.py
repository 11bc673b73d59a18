"""What a message of an agent's must look like to be taken. Pure: the row is an attacker's until this has passed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.sessions.filename import is_safe_component
from shared_schema.clock import from_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged, InvalidValue
from shared_schema.ids import Prefix, is_id
from shared_schema.rows import MessageOut, MessageOutKind, Turn, TurnStatus, decode, encode

_NUMBERS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd", "generation",
    "reasoning_tokens", "context_tokens", "context_window",
)  # fmt: skip
_MAX_REFERENCE = 500
_MAX_ERROR = 500
_TEXTS = {
    **dict.fromkeys(("failure_reason", "provider", "model", "provider_session_id", "stop_reason"), _MAX_ERROR),
    "detail": 2000,
    "fallback": 1000,
}


class RowRefused(Exception):
    """A row of `messages_out` that is not taken; the text says why."""


@dataclass(frozen=True, slots=True)
class CheckedMessage:
    """A message whose every field has its type and size. `files` are single path components.

    `content` is what the row's JSON was parsed to, once; `canonical` its text, written by the host. Nothing reads the
    agent's own text again.
    """

    seq: int
    id: str
    turn_id: str | None
    in_reply_to: str | None
    generation: int
    deliver_after: str | None
    kind: MessageOutKind
    destination: str | None
    text: str
    files: tuple[str, ...]
    content: Mapping[str, Any]
    canonical: str


def checked(row: MessageOut, *, max_text: int) -> CheckedMessage:
    """The message of a row. Raises `RowRefused`."""
    if not is_id(row.id, Prefix.MESSAGE):
        raise RowRefused("its id is not a message id")
    if not isinstance(row.generation, int):
        raise RowRefused("its generation is not a number")
    if not isinstance(row.kind, str) or row.kind not in set(MessageOutKind):
        raise RowRefused("its kind is unknown")
    for name in ("turn_id", "in_reply_to", "destination"):
        value = getattr(row, name)
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= _MAX_REFERENCE):
            raise RowRefused(f"its {name} is not an identifier")
    _time(row.timestamp, "timestamp")
    content, canonical = _content(row.content, max_text)
    return CheckedMessage(
        seq=row.seq,
        id=row.id,
        turn_id=row.turn_id,
        in_reply_to=row.in_reply_to,
        generation=row.generation,
        deliver_after=None if row.deliver_after is None else _time(row.deliver_after, "deliver_after"),
        kind=MessageOutKind(row.kind),
        destination=row.destination,
        text=content.get("text", ""),
        files=tuple(content.get("files", ())),
        content=content,
        canonical=canonical,
    )


def _content(raw: object, max_text: int) -> tuple[dict[str, Any], str]:
    """What the JSON of a row says, and the host's own text of it."""
    if not isinstance(raw, str):
        raise RowRefused("its content is not text")
    if len(raw) > 4 * max_text:
        raise RowRefused(f"it has more than {max_text} characters")
    try:
        content = decode(raw)
    except FileDamaged as error:
        raise RowRefused("its content is not a JSON object") from error
    text = content.get("text", "")
    if not isinstance(text, str):
        raise RowRefused("its text is not text")
    if len(text) > max_text:
        raise RowRefused(f"it has more than {max_text} characters")
    files = content.get("files", [])
    if not isinstance(files, list) or not all(isinstance(name, str) and is_safe_component(name) for name in files):
        raise RowRefused("its files are not a list of file names")
    try:
        canonical = encode(content)
        canonical.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowRefused("its content has half characters") from error
    return content, canonical


def _time(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise RowRefused(f"its {name} is not a time")
    try:
        from_text(value)
    except InvalidValue as error:
        raise RowRefused(f"its {name} is not a time") from error
    return value


def turn_problem(turn: Turn) -> str | None:
    """What is wrong with a turn's row, if anything."""
    if not is_id(turn.id, Prefix.TURN):
        return "its id is not a turn id"
    if not isinstance(turn.status, str) or turn.status not in set(TurnStatus):
        return "its status is unknown"
    for name in ("started_at", "finished_at"):
        value = getattr(turn, name)
        if value is None and name == "finished_at":
            continue
        try:
            from_text(value)
        except InvalidValue:
            return f"its {name} is not a time"
    for name, most in _TEXTS.items():
        value = getattr(turn, name)
        if value is not None and (not isinstance(value, str) or len(value) > most):
            return f"its {name} is not a short text"
    for name in _NUMBERS:
        value = getattr(turn, name)
        if value is not None and (not isinstance(value, int | float) or not 0 <= value < 1e15):
            return f"its {name} is not a number from 0 to below 1e15"
    return None
