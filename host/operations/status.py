"""How the host is, in one object."""

from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from host.central import deliveries, ingest, runs, sessions, turns
from host.services import Services
from shared_schema.clock import to_text


async def status(services: Services) -> dict[str, Any]:
    """The host, its running agents, what waits, and the newest failures."""
    running = services.started_at is not None
    numbers = await services.central.read(_numbers)
    now = services.clock.monotonic()
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
        **{key: value for key, value in numbers.items() if key != "names"},
    }


def _numbers(connection: sqlite3.Connection) -> dict[str, Any]:
    messages, oldest = ingest.backlog(connection)
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
        "failures": sorted(failures, key=lambda failure: str(failure["at"]), reverse=True)[:5],
        "names": runs.names_of_living(connection),
    }
