"""What grows with the registry: a page of the list of sessions, and accepting one more message."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

from host.central import session_list
from host.central.database import Transaction
from host.central.session_list import Filter
from host.routing.acceptance import Rules, accept
from host.routing.event import Event
from shared_schema.database import open_writer
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import DataLayout
from shared_schema.rows import Address
from tests.bench.figure import Figure, at_most, percentile, times
from tests.bench.population import Population, quick
from tests.bench.workbench import Workbench

SESSIONS = 10_000
MESSAGES = 100
"""In each session."""

_SAMPLE = 60
_MS = 1_000
_NOW = datetime(2026, 6, 1, tzinfo=UTC)
_RULES = Rules(100_000, "UTC", lambda session_id: False)

# The sessions were active at different times, every hundredth of them has ended; each has so many messages.
SPREAD = """
UPDATE sessions SET last_active = strftime('%Y-%m-%dT%H:%M:%S.000Z', '2026-01-01', rowid || ' minutes'),
    preview = 'what the conversation began with', status = CASE rowid % 100 WHEN 0 THEN 'ended' ELSE 'active' END
"""
_FILL = """
WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?)
INSERT INTO ingest (message_id, agent_group_id, session_id, generation, channel_type, platform_id, platform_message_id,
    kind, trigger, content, accepted_at, state, status)
SELECT 'msg_' || s.rowid || '_' || n.value, s.agent_group_id, s.id, 1, 'cli', 'chat-' || s.rowid, 'p' || n.value,
    'chat', 1, '{"text":"what somebody says"}', '2026-01-01T00:00:00.000Z', 'written', 'completed'
FROM sessions s, n
"""
_BARE_PAGE = "SELECT id, last_active FROM sessions ORDER BY last_active DESC LIMIT 100"


def measure(bench: Workbench) -> Iterator[Figure]:
    """10,000 sessions, and a million messages in the ledger."""
    population = Population(bench.new_folder("list"))
    population.add_sessions(SESSIONS)
    layout = population.layout
    few = _accepting(layout)
    with quick(layout.central) as connection:
        connection.execute(SPREAD)
        connection.execute(_FILL, (MESSAGES,))
    with closing(open_writer(layout.central)) as connection:
        group = connection.execute("SELECT id FROM agent_groups ORDER BY rowid DESC LIMIT 1").fetchone()["id"]
        bare = _times(lambda: connection.execute(_BARE_PAGE).fetchall())
        for what, chosen in (
            ("all", Filter()),
            ("of one agent group", Filter(agent_group_id=group)),
            ("ended", Filter(status="ended")),
            ("unread", Filter(unread=True)),
            ("of another channel", Filter(channel_type="telegram")),
        ):
            taken = _times(lambda chosen=chosen: session_list.page(connection, chosen))  # type: ignore[misc]
            yield Figure(
                f"a page of the list of {SESSIONS:,} sessions, {what}, p95",
                percentile(taken, 95) * _MS,
                "ms",
                percentile(bare, 50) * _MS,
                at_most(20),
            )
    many = _accepting(layout)
    yield Figure(
        f"accepting a message beside {SESSIONS * MESSAGES:,} others, without its commit, p50",
        percentile(many, 50) * _MS,
        "ms",
        percentile(few, 50) * _MS,
        times(1.5),
        note="the floor is the same beside none",
    )


def _accepting(layout: DataLayout) -> list[float]:
    """Seconds for accepting messages in different chats; nothing of it is kept."""
    with closing(open_writer(layout.central)) as connection:
        numbers = iter([*range(0, SESSIONS, SESSIONS // _SAMPLE)][:_SAMPLE] * 2)
        connection.execute("BEGIN")
        _times(lambda: _accept(connection, f"chat-{next(numbers)}"), _SAMPLE)  # as a host that has run for a while
        taken = _times(lambda: _accept(connection, f"chat-{next(numbers)}"), _SAMPLE)
        connection.execute("ROLLBACK")
    return taken


def _accept(connection: sqlite3.Connection, chat: str) -> None:
    event = Event(Address("cli", chat), new_id(Prefix.MESSAGE), "one more", sender_id="ann")
    assert accept(Transaction(connection, _NOW), event, _RULES, spool=None, names=[]).receipt.accepted


def _times(run: Callable[[], object], count: int = _SAMPLE) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return taken
