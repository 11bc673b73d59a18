"""How the host is, in one object."""

from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from host.central import deliveries, ingest, runs, sessions, turns
from host.services import Services
from shared_schema.clock import from_text, to_text
from shared_schema.rows import AgentPhase


async def status(services: Services) -> dict[str, Any]:
    """The host, its running agents, what waits, and the newest failures."""
    running = services.started_at is not None
    numbers = await services.central.read(_numbers)
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
            "version": version("dumbwaiter"),
        },
        "agents": [
            {
                "session_id": session_id,
                "agent_group": numbers["names"].get(session_id),
                "state": agent.doing or ("working" if agent.busy_since is not None else "idle"),
                "since": to_text(services.clock.now() - timedelta(seconds=now - agent.started)),
            }
            for session_id, agent in services.conductor.agents.items()
        ],
        "waiting_agents": len(services.conductor.places.waiting),
        "turns": work,
        **{key: value for key, value in numbers.items() if key != "names"},
    }


def _at_work(services: Services, row: sqlite3.Row, state: str) -> dict[str, Any]:
    """A turn that runs, or messages that wait for one; `tool` is what their agent says it uses."""
    agent = services.conductor.agents.get(row["session_id"])
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


def _numbers(connection: sqlite3.Connection) -> dict[str, Any]:
    messages, oldest = ingest.backlog(connection)
    at_work, queued = turns.at_work(connection)
    failures = [
        {"at": row["finished_at"], "session_id": row["session_id"], "what": f"not answered: {row['error']}"}
        for row in ingest.last_failures(connection)
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
        "failures": sorted(failures, key=lambda failure: str(failure["at"]), reverse=True)[:5],
        "names": runs.names_of_living(connection),
    }
