"""Servers of tools that cannot be used, as the agents of sessions say.

What works again keeps its row, without a problem: its chat was told once, and is not told again before the servers are
changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from host.central.database import Queryable, Transaction

KNOWN = "SELECT server, problem FROM tool_server_problems WHERE session_id = ?"
SET = """
INSERT INTO tool_server_problems (session_id, server, problem, since) VALUES (?, ?, ?, ?)
ON CONFLICT (session_id, server) DO UPDATE SET problem = excluded.problem, since = excluded.since
WHERE problem <> excluded.problem
"""
FORGET = """
DELETE FROM tool_server_problems WHERE session_id IN (SELECT id FROM sessions WHERE agent_group_id = ?)
"""
# What is wrong now, once for each agent group and server: in the session that has said so last. There are few problems
# and many sessions, which the joins' order says to SQLite.
OPEN = """
SELECT a.name AS agent_group, p.server, p.problem, max(p.since) AS since, p.session_id
FROM tool_server_problems p CROSS JOIN sessions s ON s.id = p.session_id
CROSS JOIN agent_groups a ON a.id = s.agent_group_id
WHERE p.problem <> '' AND s.status = 'active' GROUP BY a.name, p.server ORDER BY a.name, p.server LIMIT 100
"""


def report(tx: Transaction, session_id: str, problems: Mapping[str, str]) -> list[str]:
    """Keep what an agent says of all its servers. Returns the problems that were not told yet."""
    known = {row["server"]: row["problem"] for row in tx.execute(KNOWN, (session_id,))}
    settled = {server: "" for server, problem in known.items() if problem and server not in problems}
    rows = [(session_id, server, problem, tx.now) for server, problem in {**problems, **settled}.items()]
    tx.executemany(SET, rows)
    return sorted(problems.keys() - known.keys())


def forget(tx: Transaction, agent_group_id: str) -> None:
    """The servers of an agent group are others now."""
    tx.execute(FORGET, (agent_group_id,))


def open_problems(connection: Queryable) -> list[dict[str, str]]:
    """`agent_group, server, problem, since, session_id` of what cannot be used at the moment."""
    return [dict(row) for row in connection.execute(OPEN)]
