"""Every operation by its name, and calling one with parameters that came as JSON.

An operation is an async function of the services and named parameters; what it returns is JSON. The command line, and
everything that will ever offer the same, calls them through here, so that they do the same and say the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cache
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from host.operations import (
    agent_files,
    agent_groups,
    approvals,
    audit,
    channels,
    chat,
    containers,
    conversations,
    destinations,
    doctor,
    editor,
    events,
    export_import,
    first_run,
    history,
    home,
    hooks,
    host_log,
    inject,
    inspecting,
    messaging_groups,
    model_services,
    mount_check,
    nodes,
    prune,
    questions,
    quiet_hours,
    schedule_calendar,
    schedules,
    session_stop,
    session_transitions,
    sessions,
    status,
    terminal,
    titles,
    tokens,
    usage,
    users,
    web,
    wirings,
)
from host.services import Services
from host.validation import misfit_of
from shared_schema.errors import InvalidValue, NotFound

Operation = Callable[..., Awaitable[Any]]
_LARGEST = 2**63 - 1
Stream = Callable[..., AsyncIterator[dict[str, Any]]]

OPERATIONS: Mapping[str, Operation] = {
    "agent_group.add": agent_groups.add,
    "agent_group.list": agent_groups.list_all,
    "agent_group.show": agent_groups.show,
    "agent_group.set": agent_groups.change,
    "agent_group.rename": agent_groups.rename,
    "agent_group.remove": agent_groups.remove,
    "agent_file.list": agent_files.list_all,
    "agent_file.show": agent_files.show,
    "agent_file.set": agent_files.change,
    "agent_file.remove": agent_files.remove,
    "agent_image.list": containers.history,
    "agent_image.log": containers.show_log,
    "agent_image.rollback": containers.rollback,
    "messaging_group.add": messaging_groups.add,
    "messaging_group.list": messaging_groups.list_all,
    "messaging_group.show": messaging_groups.show,
    "messaging_group.set": messaging_groups.change,
    "messaging_group.remove": messaging_groups.remove,
    "wiring.add": wirings.add,
    "wiring.list": wirings.list_all,
    "wiring.remove": wirings.remove,
    "user.add": users.add,
    "user.list": users.list_all,
    "user.show": users.show,
    "user.set": users.change,
    "user.link": users.link,
    "user.unlink": users.unlink,
    "user.remove": users.remove,
    "user.claim_code": users.claim_code,
    "role.grant": users.grant,
    "role.revoke": users.revoke,
    "role.list": users.list_roles,
    "approval.list": approvals.list_all,
    "approval.show": approvals.show,
    "approval.approve": approvals.approve,
    "approval.deny": approvals.deny,
    "question.list": questions.list_all,
    "question.answer": questions.answer,
    "audit.list": audit.list_all,
    "host_log.list": host_log.list_all,
    "dropped.list": audit.list_dropped,
    "destination.add": destinations.add,
    "destination.list": destinations.list_all,
    "destination.remove": destinations.remove,
    "message.inject": inject.inject,
    "session.list": sessions.list_all,
    "session.numbered": sessions.numbered,
    "session.show": sessions.show,
    "session.path": sessions.path,
    "session.transcript": history.transcript,
    "session.search": history.search,
    "session.import": export_import.import_file,
    "session.logs": sessions.logs,
    "session.sql": inspecting.sql,
    "session.new": session_transitions.new,
    "session.resume": session_transitions.resume,
    "session.branch": session_transitions.branch,
    "session.undo": session_transitions.undo,
    "session.retry": session_transitions.retry,
    "session.compress": session_transitions.compress,
    "session.stop": session_stop.stop,
    "session.archive": session_stop.archive,
    "session.delete": session_stop.delete,
    "session.restore": session_stop.restore,
    "session.prune": prune.prune,
    "session.title": titles.set_title,
    "channel.add": channels.add,
    "channel.set": channels.change,
    "channel.list": channels.list_all,
    "channel.check": channels.check,
    "channel.remove": channels.remove,
    "node.list": nodes.list_all,
    "node.add": nodes.add,
    "node.drain": nodes.drain,
    "node.lost": nodes.lost,
    "node.check": nodes.check,
    "mount.check": mount_check.check,
    "schedule.add": schedules.add,
    "schedule.on": schedules.on,
    "schedule.heartbeat": schedules.heartbeat,
    "schedule.list": schedules.list_all,
    "schedule.show": schedules.show,
    "schedule.set": schedules.change,
    "schedule.pause": schedules.pause,
    "schedule.resume": schedules.resume,
    "schedule.cancel": schedules.cancel,
    "schedule.run": schedules.run,
    "schedule.log": schedules.log,
    "schedule.upcoming": schedule_calendar.upcoming,
    "schedule.pause_all": schedules.pause_all,
    "schedule.resume_all": schedules.resume_all,
    "quiet_hours.set": quiet_hours.put,
    "quiet_hours.list": quiet_hours.list_all,
    "quiet_hours.remove": quiet_hours.remove,
    "home.set": home.put,
    "home.list": home.list_all,
    "home.remove": home.remove,
    "events": events.list_all,
    "terminal.unread": chat.unread,
    "terminal.open": terminal.open_terminal,
    "terminal.send": terminal.send,
    "conversation.list": conversations.list_all,
    "conversation.show": conversations.show,
    "conversation.transcript": conversations.transcript,
    "conversation.send": conversations.send,
    "conversation.read": conversations.read,
    "conversation.interrupt": conversations.interrupt,
    "web.link": web.link,
    "web.list": web.list_all,
    "web.sign_out": web.sign_out,
    "token.add": tokens.add,
    "token.list": tokens.list_all,
    "token.revoke": tokens.revoke,
    "hook.add": hooks.add,
    "hook.list": hooks.list_all,
    "hook.remove": hooks.remove,
    "hook.test": hooks.test,
    "editor.ask": editor.ask,
    "editor.stop": editor.stop,
    "editor.transcript": editor.transcript,
    "first_run": first_run.set_up,
    "model_service.show": model_services.show,
    "model_service.ask": model_services.ask,
    "model_service.set": model_services.change,
    "status": status.status,
    "doctor.examine": doctor.examine_running,
    "usage": usage.report,
}

STREAMS: Mapping[str, Stream] = {
    "chat": chat.chat,
    "terminal.follow": terminal.follow,
    "conversation.follow": conversations.follow,
    "editor.follow": editor.follow,
    "session.tail": history.tail,
    "session.export": export_import.export,
    "history.rebuild": history.rebuild,
    "events": events.follow,
}


_LOOKING = frozenset(
    {
        "list", "show", "numbered", "path", "transcript", "search", "logs", "sql", "status", "usage", "events",
        "unread", "open", "upcoming", "tail", "export", "examine", "log", "file",
    }
)  # fmt: skip


def only_looks(name: str) -> bool:
    """Whether an operation or a stream only reads, by the last word of its name."""
    return name.rpartition(".")[2] in _LOOKING


_ASKS = frozenset({"model_service.ask", "channel.check", "node.check", "mount.check"})
_SAYS = frozenset(
    {
        "question.answer", "message.inject", "terminal.send", "conversation.send", "conversation.read",
        "conversation.interrupt", "editor.ask", "editor.stop",
    }
)  # fmt: skip
"""What people say and hear: the ledger has it, and the log has lines of its own for it."""


def changes(name: str, given: Mapping[str, Any]) -> bool:
    """Whether an operation changes anything with these parameters, so that the log says who did it."""
    return not (only_looks(name) or name in _ASKS or name in _SAYS or given.get("only_look"))


async def call(services: Services, name: str, parameters: Mapping[str, Any]) -> Any:
    """Do an operation; its result. Raises `NotFound`, `InvalidValue` for parameters that do not fit, and its own."""
    operation = OPERATIONS.get(name)
    if operation is None:
        raise NotFound(f"there is no operation '{name}'", hint="host and command line may be of different versions")
    _require_real_numbers(parameters)
    try:
        return await _validated(operation)(services, **parameters)
    except ValidationError as error:
        raise _misfit(error) from error


def stream(services: Services, name: str, parameters: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Begin a stream of JSON objects. Raises as `call`."""
    operation = STREAMS.get(name)
    if operation is None:
        raise NotFound(f"there is no stream '{name}'", hint="host and command line may be of different versions")
    _require_real_numbers(parameters)
    try:
        objects: AsyncIterator[dict[str, Any]] = _validated(operation)(services, **parameters)
    except ValidationError as error:
        raise _misfit(error) from error
    return objects


def _require_real_numbers(parameters: Mapping[str, Any]) -> None:
    """JSON knows numbers of any length, and Python's also infinite ones; a registry stores neither."""
    for name, value in parameters.items():
        if isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:
            raise InvalidValue(f"the parameter '{name}' is too large or no number")


@cache
def _validated(operation: Callable[..., Any]) -> Callable[..., Any]:
    return validate_call(config=ConfigDict(arbitrary_types_allowed=True, strict=True))(operation)


def _misfit(error: ValidationError) -> InvalidValue:
    first = error.errors()[0]
    if not first["loc"]:  # not even a name: half a character, for instance
        return InvalidValue(f"the parameters are not valid: {misfit_of(first)}")
    return InvalidValue(f"the parameter '{first['loc'][-1]}' is not valid: {misfit_of(first)}")
