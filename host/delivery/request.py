"""What an agent may ask of the host in mid-turn. Pure: the row is an attacker's until this has passed.

A request is a message of kind `system` with the content `{"request": name, "arguments": {…}}`. It only reads, or says
how things are, so it may be asked, answered and lost any number of times. What it may read is of its own agent group;
the answering side enforces that.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from host.central.database import Effect
from host.delivery.check import CheckedMessage, RowRefused
from shared_schema import tool_servers
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.text import one_line

MAX_ANSWER = 32_000
"""Characters of an answer: what a model can take of one, and what a hostile agent can fill a file with."""

_MAX_ARGUMENTS = 4_000
_MAX_TEXT = 1_000


class RequestName(StrEnum):
    LIST_SESSIONS = "list_sessions"
    SEARCH_MESSAGES = "search_messages"
    READ_HISTORY = "read_history"
    REPORT_TOOL_SERVERS = "report_tool_servers"
    SCHEDULE_TASK = "schedule_task"
    LIST_TASKS = "list_tasks"
    UPDATE_TASK = "update_task"
    PAUSE_TASK = "pause_task"
    RESUME_TASK = "resume_task"
    CANCEL_TASK = "cancel_task"
    REQUEST_HOST = "request_host"
    ADD_MCP_SERVER = "add_mcp_server"
    CREATE_AGENT = "create_agent"
    MAY_CALL = "may_call"
    DELEGATE = "delegate"
    INSTALL_PACKAGES = "install_packages"
    REQUEST_MOUNT = "request_mount"


@dataclass(frozen=True, slots=True)
class _Number:
    least: int
    most: int
    default: int | None


@dataclass(frozen=True, slots=True)
class _Text:
    default: str | None = None
    is_required: bool = False
    most: int = _MAX_TEXT


@dataclass(frozen=True, slots=True)
class _Sentences:
    """Sentences by short names."""

    most: int
    most_name: int
    most_text: int


_MAX_PROMPT = 3_000
_TASK: Mapping[str, _Number | _Text | _Sentences] = {
    "zone": _Text(),
    "to": _Text(),
    "session": _Text(),
    "missed": _Text(),
    "max_runs": _Number(1, 10**9, None),
    "ends": _Text(),
}
_FORMS: Mapping[RequestName, Mapping[str, _Number | _Text | _Sentences]] = {
    RequestName.LIST_SESSIONS: {"limit": _Number(1, 100, 20)},
    RequestName.SEARCH_MESSAGES: {
        "query": _Text(is_required=True),
        "since": _Text("7d"),
        "until": _Text(),
        "session": _Text(),
        "sender": _Text(),
        "limit": _Number(1, 200, 50),
    },
    RequestName.REPORT_TOOL_SERVERS: {"problems": _Sentences(tool_servers.MAX_SERVERS + 1, 64, 500)},
    RequestName.SCHEDULE_TASK: {
        "when": _Text(is_required=True),
        "prompt": _Text(is_required=True, most=_MAX_PROMPT),
        "name": _Text(),
        **_TASK,
    },
    RequestName.LIST_TASKS: {},
    RequestName.UPDATE_TASK: {
        "name": _Text(is_required=True),
        "when": _Text(),
        "prompt": _Text(most=_MAX_PROMPT),
        **_TASK,
    },
    RequestName.PAUSE_TASK: {"name": _Text(is_required=True)},
    RequestName.RESUME_TASK: {"name": _Text(is_required=True)},
    RequestName.CANCEL_TASK: {"name": _Text(is_required=True)},
    RequestName.REQUEST_HOST: {"host": _Text(is_required=True, most=300), "reason": _Text(is_required=True, most=500)},
    RequestName.ADD_MCP_SERVER: {
        "name": _Text(is_required=True, most=64),
        "configuration": _Text(is_required=True, most=1_500),
        "reason": _Text(is_required=True, most=500),
    },
    RequestName.CREATE_AGENT: {
        "name": _Text(is_required=True, most=63),
        "instructions": _Text(is_required=True, most=1_500),
        "model": _Text(most=300),
        "reason": _Text(is_required=True, most=300),
    },
    RequestName.INSTALL_PACKAGES: {
        "apt": _Text(most=1_200),
        "pip": _Text(most=1_200),
        "reason": _Text(is_required=True, most=500),
    },
    RequestName.REQUEST_MOUNT: {
        "path": _Text(is_required=True, most=500),
        "name": _Text(is_required=True, most=64),
        "access": _Text("read"),
        "reason": _Text(is_required=True, most=500),
    },
    RequestName.DELEGATE: {
        "task": _Text(is_required=True, most=4_000),
        "agent": _Text(most=63),
        "minutes": _Number(1, 120, 15),
        "tokens": _Number(1_000, 10_000_000, 500_000),
        "key": _Text(is_required=True, most=64),
    },
    RequestName.MAY_CALL: {
        "tool": _Text(is_required=True, most=200),
        "arguments": _Text(is_required=True, most=2_000),
        "call": _Text(is_required=True, most=64),
    },
    RequestName.READ_HISTORY: {"session": _Text(), "limit": _Number(1, 200, 50)},
}


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One request. `name` and `arguments` are not checked yet: what is wrong with them, the agent is told."""

    message_id: str
    generation: int
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class AgentAsks(Effect):
    """The agent of a session asks something of the host, to be answered now."""

    session_id: str
    request: AgentRequest


def request_of(message: CheckedMessage) -> AgentRequest | None:
    """The request in a message of kind `system`; None when it is none. Raises `RowRefused` for one without a form."""
    content = message.content
    if "request" not in content:
        return None
    name, arguments = content["request"], content.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict) or len(message.canonical) > _MAX_ARGUMENTS:
        raise RowRefused("it is not a request that can be read")
    return AgentRequest(message.id, message.generation, name, arguments)


def arguments_of(request: AgentRequest) -> tuple[RequestName, dict[str, Any]]:
    """What is asked for, with all arguments and their defaults. Raises `InvalidValue`, which the agent is told."""
    if request.name not in set(RequestName):
        raise InvalidValue(f"'{request.name[:80]}' is not something the host can be asked for")
    name = RequestName(request.name)
    form = _FORMS[name]
    if unknown := sorted(key for key in request.arguments if key not in form):
        raise InvalidValue(f"there is no argument '{unknown[0][:80]}'")
    return name, {key: _argument(key, rule, request.arguments.get(key)) for key, rule in form.items()}


def _argument(name: str, rule: _Number | _Text | _Sentences, value: Any) -> Any:
    if isinstance(rule, _Sentences):
        return _sentences(name, rule, value)
    if isinstance(rule, _Number):
        if value is None:
            return rule.default
        if not isinstance(value, int) or isinstance(value, bool) or not rule.least <= value <= rule.most:
            raise InvalidValue(f"'{name}' must be a whole number from {rule.least} to {rule.most}")
        return value
    if value is None:
        if rule.is_required:
            raise InvalidValue(f"'{name}' is missing")
        return rule.default
    if not isinstance(value, str) or not value.strip() or len(value) > rule.most:
        raise InvalidValue(f"'{name}' must be a text of 1 to {rule.most} characters")
    return value


def _sentences(name: str, rule: _Sentences, value: Any) -> dict[str, str]:
    good = isinstance(value, dict) and len(value) <= rule.most
    if not good or not all(
        isinstance(text, str) and 0 < len(text) <= rule.most_text and 0 < len(key) <= rule.most_name
        for key, text in value.items()
    ):
        raise InvalidValue(f"'{name}' must be at most {rule.most} texts of 1 to {rule.most_text} characters by names")
    return {key: one_line(text, rule.most_text) for key, text in value.items()}
