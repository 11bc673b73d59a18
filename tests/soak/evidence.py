"""Everything there is to know when a run is over: the ledger, all session files, what the platforms took, the log."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_schema.layout import DataLayout, SessionLayout
from tests.soak.plan import AGENT_GROUP
from tests.soak.platforms import Arrived, Offered, Platform

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class SessionFiles:
    """What the two files of a session say, and the texts in `inbox/` by their path in it. What is missing is empty."""

    messages_in: Rows
    delivered: Rows
    messages_out: Rows
    acks: Rows
    inbox: dict[str, str]
    damaged: list[str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. Rows are dicts by column; `offered` and `arrived` are by platform, in order."""

    offered: dict[str, list[Offered]]
    arrived: dict[str, list[Arrived]]
    ingest: Rows
    sessions: dict[str, dict[str, Any]]
    deliveries: Rows
    refused: set[tuple[str, str]]  # session and row, as the host names it
    running_turns: int
    files: dict[str, SessionFiles]
    damaged: list[str]
    left_in_run: list[str]
    left_in_spool: list[str]
    put_aside: list[str]
    data_bytes: int
    errors: Counter[str] = field(default_factory=Counter)
    tracebacks: Counter[str] = field(default_factory=Counter)
    stopped: set[str] = field(default_factory=set)
    reset: dict[str, float] = field(default_factory=dict)


def gather(
    layout: DataLayout, log: Path, platforms: Sequence[Platform], *, stopped: set[str], reset: dict[str, float]
) -> Evidence:
    """Read it all. No host and no agent may run. Blocks."""
    ours = "(SELECT id FROM agent_groups WHERE name = ?)"  # what the bots did is judged apart
    with closing(_opened(layout.central)) as central:
        listed = f"SELECT * FROM sessions WHERE agent_group_id = {ours}"
        sessions = {row["id"]: row for row in _rows(central, listed, AGENT_GROUP)}
        accepted = f"SELECT * FROM ingest WHERE kind <> 'control' AND agent_group_id = {ours} ORDER BY position"
        ingest = _rows(central, accepted, AGENT_GROUP)
        deliveries = [
            row for row in _rows(central, "SELECT * FROM deliveries ORDER BY position") if row["session_id"] in sessions
        ]
        refused = {(row["session_id"], row["what"]) for row in _rows(central, "SELECT * FROM refusals")}
        running = len(_rows(central, "SELECT id FROM turns WHERE status = 'running'"))
        damaged = _problems(central, layout.central)
    files = {
        session_id: _session_files(layout.session(row["agent_group_id"], session_id))
        for session_id, row in sessions.items()
    }
    errors, tracebacks = _read_log(log)
    return Evidence(
        offered={platform.kind.name: list(platform.offered.values()) for platform in platforms},
        arrived={platform.kind.name: platform.arrived for platform in platforms},
        ingest=ingest,
        sessions=sessions,
        deliveries=deliveries,
        refused=refused,
        running_turns=running,
        files=files,
        damaged=damaged + [problem for found in files.values() for problem in found.damaged],
        left_in_run=sorted(path.name for path in layout.run.iterdir()),
        left_in_spool=sorted(path.name for path in layout.spool.iterdir()),
        put_aside=sorted(str(path) for path in layout.sessions.rglob("outbound.db.unreadable-*")),
        data_bytes=sum(path.stat().st_size for path in layout.data.rglob("*") if path.is_file()),
        errors=errors,
        tracebacks=tracebacks,
        stopped=stopped,
        reset=reset,
    )


def _session_files(folder: SessionLayout) -> SessionFiles:
    damaged: list[str] = []
    tables: dict[str, Rows] = defaultdict(list)
    for path, names in (
        (folder.inbound, ("messages_in", "delivered")),
        (folder.outbound, ("messages_out", "processing_ack")),
    ):
        if not path.exists():
            continue
        with closing(_opened(path)) as connection:
            damaged += _problems(connection, path)
            for name in names:
                tables[name] = _rows(connection, f"SELECT * FROM {name} ORDER BY rowid")
    return SessionFiles(
        messages_in=tables["messages_in"],
        delivered=tables["delivered"],
        messages_out=tables["messages_out"],
        acks=tables["processing_ack"],
        inbox={str(path.relative_to(folder.inbox)): path.read_text() for path in folder.inbox.glob("*/*")},
        damaged=damaged,
    )


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _rows(connection: sqlite3.Connection, statement: str, *parameters: object) -> Rows:
    return [dict(row) for row in connection.execute(statement, parameters)]


def _problems(connection: sqlite3.Connection, path: Path) -> list[str]:
    found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    return [] if found == ["ok"] else [f"{path}: {problem}" for problem in found]


def _read_log(log: Path) -> tuple[Counter[str], Counter[str]]:
    """How often the host logged which error or warning, and which exceptions it did not expect."""
    errors: Counter[str] = Counter()
    tracebacks: Counter[str] = Counter()
    for line in log.read_text(encoding="utf-8").splitlines():
        whole = line[max(0, line.rfind('{"time": ')) :]  # before it, what a host wrote when it was killed
        try:
            entry = json.loads(whole)
        except ValueError:  # what Python prints at the end of a process
            tracebacks["not a log line"] += bool(line.strip())
            continue
        if entry["level"] in ("warning", "error"):
            errors[entry["event"]] += 1
        if "traceback" in entry and "PlatformFailed" not in entry["traceback"]:
            tracebacks[f"{entry['event']}: {entry['traceback'].strip().splitlines()[-1]}"] += 1
    return errors, tracebacks
