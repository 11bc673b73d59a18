"""What a shell completes where a session, an agent group, a chat or a schedule is named: those that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from host.api.client import HostClient
from host.cli.invocation import Invocation
from host.cli.plain import one_line
from shared_schema.errors import DumbwaiterError

_SECONDS = 1.0
_MOST = 200

Names = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def sessions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Short ids, each with its title as the help, and titles."""
    found: list[CompletionItem] = []
    for each in _listed(context, "session.list", limit=_MOST):
        title = one_line(each.get("title") or each.get("preview") or "")
        found.append(CompletionItem(each["short_id"], help=title or None))
        if each.get("title"):
            found.append(CompletionItem(title))
    return _fitting(found, incomplete)


def agent_groups(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of agent groups."""
    return _fitting([CompletionItem(each["name"]) for each in _listed(context, "agent_group.list")], incomplete)


def messaging_groups(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Addresses of chats, each with its name as the help."""
    found = _listed(context, "messaging_group.list")
    return _fitting([CompletionItem(each["address"], help=each.get("name")) for each in found], incomplete)


def schedules(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of schedules, each with when it is due as the help."""
    found = _listed(context, "schedule.list")
    return _fitting([CompletionItem(each["name"], help=one_line(each.get("when") or "")) for each in found], incomplete)


NAMES: dict[str, Names] = {
    "session": sessions,
    "schedule": schedules,
    "agent_group": agent_groups,
    "agent": agent_groups,
    "messaging_group": messaging_groups,
    "address": messaging_groups,
}
"""By the name of the parameter, which is the same in all commands."""


def _fitting(found: list[CompletionItem], incomplete: str) -> list[CompletionItem]:
    return [item for item in found if str(item.value).startswith(incomplete)]


def _listed(context: click.Context, operation: str, **params: Any) -> list[dict[str, Any]]:
    """What a running host lists, within a second; nothing otherwise, because a shell is not to wait."""
    invocation = context.find_root().ensure_object(Invocation)
    try:
        found: list[dict[str, Any]] = HostClient(invocation.layout.socket, seconds=_SECONDS).call(operation, params)
    except DumbwaiterError:
        return []
    return found
