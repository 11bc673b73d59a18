"""How the host is, in one object."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from host.central import (
    deliveries,
    ingest,
    quota,
    rate_limits,
    repairs,
    runs,
    session_list,
    sessions,
    tool_server_problems,
    turns,
)
from host.central.database import Queryable
from host.operations import approvals, channels, hooks, nodes, schedules
from host.routing.acceptance import ARCHIVED
from host.services import Services
from shared_schema.clock import from_text, to_text
from shared_schema.layout import DataLayout
from shared_schema.rows import AgentPhase

_ENDS = ("", "-wal", "-shm")
_REPAIRS = 5
_REPAIRS_SINCE = timedelta(days=7)


async def status(services: Services) -> dict[str, Any]:
    """The host, its running agents, what waits, and the newest failures."""
    running = services.started_at is not None
    now_text = to_text(services.clock.now())
    full = services.history.intake.full(time.monotonic())
    numbers, sizes = await asyncio.gather(
        services.central.read(_numbers, now_text), asyncio.to_thread(file_sizes, services.settings.layout)
    )
    files: dict[str, Any] = {**sizes}
    files["largest"] = numbers.pop("largest")
    numbers["limits"] += [
        {"what": "what history takes of a session", "subject": name, "hour": now_text[:13] + ":00Z", "held_back": None}
        for name in full
    ]
    at_work = list(services.supervisor.agents)
    named = [*at_work, *(row["session_id"] for rows in ("running", "queued", "failures") for row in numbers[rows])]
    since = to_text(services.clock.now() - _REPAIRS_SINCE)
    more, shown_channels, shown_hooks, shown_approvals = await asyncio.gather(
        services.central.read(_more, named, since, now_text),
        channels.list_all(services),
        hooks.list_all(services),
        approvals.list_all(services),
    )
    short = more["short"]
    now = services.clock.monotonic()
    work = [_at_work(services, row, "running") for row in numbers.pop("running")]
    work += [_at_work(services, row, "queued") for row in numbers.pop("queued")]
    return {
        "host": {
            "running": running,
            "pid": os.getpid() if running else None,
            "since": to_text(services.started_at) if services.started_at is not None else None,
            "runtime": services.runtime.name if running else None,
            "runtime_reason": services.runtime_reason if running else None,
            "data": str(services.settings.data),
            "version": _version(),
        },
        "agents": [
            {
                "session_id": session_id,
                "short_session_id": short[session_id],
                "agent_group": numbers["names"].get(session_id),
                "state": agent.doing or ("working" if agent.busy_since is not None else "idle"),
                "since": to_text(services.clock.now() - timedelta(seconds=now - agent.started)),
                "node": agent.handle.node or None,
            }
            for session_id in at_work
            if (agent := services.supervisor.agents.get(session_id)) is not None
        ],
        "waiting_agents": len(services.supervisor.slots.waiting),
        "turns": [each | {"short_session_id": short[each["session_id"]]} for each in work],
        "failures": [each | {"short_session_id": short[each["session_id"]]} for each in numbers.pop("failures")],
        "channels": shown_channels,
        "hooks": shown_hooks,
        "nodes": await nodes.list_all(services) if running else [],
        "waits_for_nodes": [
            {"session_id": session_id, "node": node} for session_id, node in services.supervisor.waits_for().items()
        ],
        "approvals": shown_approvals,
        "schedules": more["schedules"],
        "files": files,
        "faults": [
            {"session_id": fault.session_id, "since": fault.since, "what": fault.cause, "attempts": fault.attempts}
            for fault in services.supervisor.faults.all()
        ],
        "repairs": more["repairs"],
        **{key: value for key, value in numbers.items() if key != "names"},
    }


def _at_work(services: Services, row: sqlite3.Row, state: str) -> dict[str, Any]:
    """A turn that runs, or messages that wait for one; `tool` is what their agent says it uses."""
    agent = services.supervisor.agents.get(row["session_id"])
    elapsed = (services.clock.now() - from_text(row["since"])).total_seconds()
    return {
        "session_id": row["session_id"],
        "agent_group": row["agent_group"],
        "state": state,
        "since": row["since"],
        "elapsed_seconds": round(max(0.0, elapsed), 1),
        "attempt": row["attempt"],
        "tool": agent.doing if agent is not None and agent.doing not in set(AgentPhase) else None,
    }


def file_sizes(layout: DataLayout) -> dict[str, int]:
    """The size of the host's own files in bytes, each with what SQLite keeps beside it. Blocks."""
    return {path.name: sum(_size(path.with_name(path.name + end)) for end in _ENDS) for path in _own(layout)}


def _own(layout: DataLayout) -> tuple[Path, Path]:
    return layout.central, layout.history


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _more(connection: Queryable, named: list[str], since: str, now: str) -> dict[str, Any]:
    """Short ids of the sessions that are named, repairs since a stored time, and what acts by itself."""
    return {
        "short": {each: session_list.short_id(connection, each) for each in named},
        "repairs": repairs.last(connection, since, _REPAIRS),
        "schedules": schedules.acting(connection, now),
    }


@cache
def _version() -> str:
    """The version that is installed; looked up once, because its file is read and parsed for it."""
    return version("dumbwaiter")


def _numbers(connection: Queryable, now: str) -> dict[str, Any]:
    messages, oldest = ingest.backlog(connection)
    at_work, queued = turns.at_work(connection)
    failures = [
        {"at": row["finished_at"], "session_id": row["session_id"], "what": f"not answered: {row['error']}"}
        for row in ingest.last_failures(connection, but=ARCHIVED)  # who wrote was told, and nothing is to be mended
    ] + [
        {
            "at": row["finished_at"],
            "session_id": row["session_id"],
            "what": f"{row['status']} in {row['messaging_group']}: {row['error']}",
        }
        for row in deliveries.last_failures(connection)
    ]
    return {
        "backlog": {"messages": messages, "oldest": oldest},
        "deliveries_waiting": deliveries.waiting(connection),
        "sessions": sessions.count(connection),
        "turns_running": turns.running_count(connection),
        "running": at_work,
        "queued": queued,
        "tool_servers": tool_server_problems.open_problems(connection),
        "failures": sorted(failures, key=lambda failure: str(failure["at"]), reverse=True)[:5],
        "limits": [
            {
                "what": row["act"],
                "subject": row["subject"],
                "hour": f"{row['hour']}:00Z",
                "held_back": row["used"] - row["most"],
            }
            for row in rate_limits.struck(connection, now)
        ],
        "largest": [dict(row) for row in quota.largest(connection)],
        "names": runs.names_of_living(connection),
    }
