"""The entries of a session's transcript: what history has of it, with what the ledger knows. Pure."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from host.central.transcript import Known
from host.history.step_order import interleaved
from shared_schema.errors import FileDamaged
from shared_schema.rows import decode
from shared_schema.text import without_lone_surrogates


def entries(
    messages: Sequence[sqlite3.Row],
    steps: Sequence[sqlite3.Row],
    known: Sequence[Known],
    *,
    agent: str,
    whole: bool,
) -> list[dict[str, Any]]:
    """All entries in order. What only the ledger has stands behind the message that it stands behind there.

    `agent` is the name of the agent group. When the messages are not the `whole` session, what only the ledger has and
    stands before all of them is left out.
    """
    statuses = {(each.direction, each.id): each.status for each in known if not each.only_here}
    behind: dict[str | None, list[Known]] = {}
    present = {message["message_id"] for message in messages}
    anchor: str | None = None
    for each in known:
        if each.only_here:
            behind.setdefault(anchor, []).append(each)
        elif each.id in present:
            anchor = each.id
    found = [each.as_entry() for each in behind.pop(None, ())] if whole or not messages else []
    for row in interleaved(messages, steps):
        if row["source"] == "steps":
            found.append(_of_step(row))
        else:
            found.append(_of_message(row, statuses, agent))
            found += [each.as_entry() for each in behind.pop(row["message_id"], ())]
    return found


def left_out(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An entry in front that says that a transcript does not begin at its beginning."""
    return {
        "id": "left-out",
        "direction": "out",
        "time": told[0]["time"] if told else None,
        "sender": "dumbwaiter",
        "text": "What was said or done before this is left out: it is too much for one transcript. `dumbwaiter session"
        " export` writes all of it.",
        "files": [],
        "kind": "notice",
        "status": None,
    }


def files_of(content: str | None) -> list[str]:
    """The names of a message's files; none of one that cannot be read, so that the others still can be."""
    try:
        files = decode(content or "{}").get("files")
    except FileDamaged:
        return []
    names = [file.get("name") if isinstance(file, dict) else file for file in files] if isinstance(files, list) else []
    return [without_lone_surrogates(name) for name in names if isinstance(name, str)]


def _of_message(row: sqlite3.Row, statuses: Mapping[tuple[str, str], str], agent: str) -> dict[str, Any]:
    inward = row["source"] == "messages_in"
    direction = "in" if inward else "out"
    return {
        "id": row["message_id"],
        "direction": direction,
        "time": row["time"],
        "sender": row["sender_name"] or row["sender_id"] if inward else agent,
        "text": row["text"],
        "files": files_of(row["content"]),
        "kind": row["kind"],
        "status": statuses.get((direction, row["message_id"])),
    }


def _of_step(row: sqlite3.Row) -> dict[str, Any]:
    """A step has the keys of a message, too, so that every entry can be shown in the same way."""
    return {
        "id": f"step-{row['seq']}",
        "direction": "step",
        "time": row["time"],
        "sender": row["role"],
        "text": row["text"] or "",
        "files": [],
        "kind": "step",
        "status": None,
        "role": row["role"],
        "turn_id": row["turn_id"],
        "content": row["content"],
        "tool_name": row["tool_name"],
        "tool_call_id": row["tool_call_id"],
        "tool_calls": row["tool_calls"],
        "reasoning": row["reasoning"],
        "usage": row["usage"],
    }
