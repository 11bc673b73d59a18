"""What comes in while a turn runs: answers to what its tools have asked, and messages of people.

Invariant: `inbound.db` is opened afresh for every look. A hint (`changed`) only ends a wait early; behind it the file
is looked at every `poll_seconds`, and that alone is enough.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from shared_schema import database
from shared_schema.errors import FileTrouble
from shared_schema.rows import DeliveryStatus, Destination, MessageIn, decode

_BUSY_SECONDS = 0.25  # as in inbox.py
_ROWS = 200

# What became of an approval: a message of the host that is to be taken by a turn: the approval's id.
DECISION = """
SELECT seq, id, kind, timestamp, generation, trigger, status, tries, process_after, channel_type,
       platform_id, thread_id, sender_id, sender_name, source_session_id, content
FROM messages_in INDEXED BY messages_in_pending
WHERE status = 'pending' AND kind = 'agent' AND content ->> 'approval' = ? ORDER BY seq LIMIT 1
"""

# The newest row.
LAST = "SELECT coalesce(max(seq), 0) AS seq FROM messages_in"

# What the host has answered since a row: a JSON object with the id of what it answers.
ANSWERS = """
SELECT content FROM messages_in WHERE seq > ? AND kind = 'system' AND content ->> 'answer_to' = ? ORDER BY seq LIMIT 1
"""

# What people have written since a row and the agent has not answered: seq, generation, rows.
SINCE = """
SELECT seq, id, kind, timestamp, generation, trigger, status, tries, process_after, channel_type,
       platform_id, thread_id, sender_id, sender_name, source_session_id, content
FROM messages_in INDEXED BY messages_in_pending
WHERE status = 'pending' AND seq > ? AND generation = ? AND kind = 'chat' AND trigger = 1 AND process_after IS NULL
ORDER BY seq LIMIT ?
"""

# What people have changed since a row of some messages that they wrote, or that they have taken one back: seq,
# generation, the messages' ids as JSON, rows.
CHANGES = """
SELECT seq, id, kind, timestamp, generation, trigger, status, tries, process_after, channel_type,
       platform_id, thread_id, sender_id, sender_name, source_session_id, content
FROM messages_in INDEXED BY messages_in_pending
WHERE status = 'pending' AND seq > ? AND generation = ? AND kind = 'chat' AND trigger = 0 AND process_after IS NULL
    AND content ->> 'change' IS NOT NULL
    AND content ->> '$.reply_to.message' IN (SELECT value FROM json_each(?))
ORDER BY seq LIMIT ?
"""

# The id of a message that came in, or went out: seq.
IN_ID = "SELECT id FROM messages_in WHERE seq = ? AND kind = 'chat'"
OUT_ROW = "SELECT id, in_reply_to, destination, kind FROM messages_out WHERE seq = ?"
OUT_SEQ = "SELECT seq FROM messages_out WHERE id = ?"

# What became of a message that went out, as far as the host has said: id.
DELIVERED = "SELECT status, error FROM delivered WHERE message_out_id = ?"

# The names under which this agent may send now.
DESTINATIONS = (
    "SELECT name, display_name, type, channel_type, platform_id, agent_group_id FROM destinations ORDER BY name"
)

# The questions of one generation that belong to one message, the newest first: generation, in_reply_to.
QUESTIONS = """
SELECT id, content FROM messages_out WHERE kind = 'question' AND generation = ? AND in_reply_to = ?
ORDER BY seq DESC LIMIT 20
"""

T = TypeVar("T")
Answer = dict[str, Any]
"""The content of a row that answers another."""


class TurnInbox:
    """Looks at the files of one session for one turn.

    `acknowledged` says which of some ids have an acknowledgement; `take` makes a message part of the running turn, so
    that it is acknowledged with it.
    """

    def __init__(
        self,
        inbound: Path,
        outbound: Path,
        *,
        generation: int,
        acknowledged: Callable[[Collection[str]], set[str]],
        take: Callable[[MessageIn], None],
        poll_seconds: float = 1.0,
    ) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._generation = generation
        self._acknowledged = acknowledged
        self._take = take
        self._poll_seconds = poll_seconds
        self._news = asyncio.Event()

    def changed(self) -> None:
        """`inbound.db` has changed, or may have."""
        self._news.set()

    def last(self) -> int:
        """The `seq` of the newest row. Raises `FileTrouble`."""
        with database.reader(self._inbound, busy_seconds=_BUSY_SECONDS) as connection:
            return int(connection.execute(LAST).fetchone()["seq"])

    async def answer(self, message_id: str, *, after: int, seconds: float) -> Answer | None:
        """What the host answers to a message of ours, in a row behind `after`; None when it does not in time."""
        return await self._until(lambda c: _answer(c, message_id, after), seconds)

    async def reply(
        self, message_id: str, address: tuple[str | None, ...], *, after: int, seconds: float
    ) -> Answer | MessageIn | None:
        """The same, or the first message that a person writes there instead; that becomes part of the turn."""

        def find(connection: sqlite3.Connection) -> Answer | MessageIn | None:
            answer = _answer(connection, message_id, after)
            return self._written(connection, address, after) if answer is None else answer

        found: Answer | MessageIn | None = await self._until(find, seconds)
        if isinstance(found, MessageIn):
            self._take(found)
        return found

    async def decision(self, approval_id: str, *, seconds: float) -> Answer | None:
        """How an approval has ended, which becomes part of the turn; None when it has not in time."""

        def find(connection: sqlite3.Connection) -> MessageIn | None:
            row = connection.execute(DECISION, (approval_id,)).fetchone()
            found = None if row is None else MessageIn.from_row(row)
            return None if found is None or self._acknowledged([found.id]) else found

        message = await self._until(find, seconds)
        if message is None:
            return None
        self._take(message)
        return decode(message.content)

    def follow_ups(
        self, address: tuple[str | None, ...], *, after: int, about: Collection[str] = ()
    ) -> list[MessageIn]:
        """Returns what people wrote there behind a row, oldest first; that becomes part of the turn.

        And what they have changed or taken back of messages that are `about`: those that the turn answers. What was
        tried before is left for a turn of its own. Raises `FileTrouble`.
        """
        with database.reader(self._inbound, busy_seconds=_BUSY_SECONDS) as connection:
            rows = [row for row in self._open(connection, after) if row.address == address]
            if about:
                values = (after, self._generation, json.dumps(list(about)), _ROWS)
                rows += self._unanswered([MessageIn.from_row(row) for row in connection.execute(CHANGES, values)])
            found = sorted((row for row in rows if not row.tries), key=lambda row: row.seq)
        taken: list[MessageIn] = []
        for message in found:
            try:
                self._take(message)
            except FileTrouble:
                if not taken:
                    raise
                break  # what was taken is acknowledged with the turn, so it is told; the rest is taken the next time
            taken.append(message)
        return taken

    def id_of_incoming(self, seq: int) -> str | None:
        """The id of `in-<seq>`."""
        with database.reader(self._inbound, busy_seconds=_BUSY_SECONDS) as connection:
            row = connection.execute(IN_ID, (seq,)).fetchone()
        return None if row is None else str(row["id"])

    def outgoing(self, seq: int) -> sqlite3.Row | None:
        """`id, in_reply_to, destination, kind` of `out-<seq>`."""
        with database.reader(self._outbound, busy_seconds=_BUSY_SECONDS) as connection:
            found: sqlite3.Row | None = connection.execute(OUT_ROW, (seq,)).fetchone()
        return found

    def refusal(self, message_id: str) -> str | None:
        """Why a message that went out never arrived; None for one that did, or may still."""
        with database.reader(self._inbound, busy_seconds=_BUSY_SECONDS) as connection:
            row = connection.execute(DELIVERED, (message_id,)).fetchone()
        return None if row is None or row["status"] != DeliveryStatus.FAILED else str(row["error"] or "it failed")

    def destinations(self) -> dict[str, Destination]:
        """Where the agent may send at this moment, by name."""
        with database.reader(self._inbound, busy_seconds=_BUSY_SECONDS) as connection:
            rows = connection.execute(DESTINATIONS).fetchall()
        return {row["name"]: Destination.from_row(row) for row in rows}

    def name_of(self, message_id: str) -> str:
        """What a message that we sent is called: `out-<seq>`."""
        with database.reader(self._outbound, busy_seconds=_BUSY_SECONDS) as connection:
            row = connection.execute(OUT_SEQ, (message_id,)).fetchone()
        return message_id if row is None else f"out-{row['seq']}"

    def questions(self, in_reply_to: str) -> list[tuple[str, dict[str, Any]]]:
        """The ids and contents of what was asked over one message, the newest first."""
        with database.reader(self._outbound, busy_seconds=_BUSY_SECONDS) as connection:
            rows = connection.execute(QUESTIONS, (self._generation, in_reply_to)).fetchall()
        return [(row["id"], decode(row["content"])) for row in rows]

    def _written(self, connection: sqlite3.Connection, address: tuple[str | None, ...], after: int) -> MessageIn | None:
        return next((row for row in self._open(connection, after) if row.address == address), None)

    def _open(self, connection: sqlite3.Connection, after: int) -> list[MessageIn]:
        """Returns what people have written behind a row and the agent has not acknowledged."""
        return self._unanswered(
            [MessageIn.from_row(row) for row in connection.execute(SINCE, (after, self._generation, _ROWS))]
        )

    def _unanswered(self, rows: list[MessageIn]) -> list[MessageIn]:
        done = self._acknowledged([row.id for row in rows]) if rows else set()
        return [row for row in rows if row.id not in done]

    async def _until(self, find: Callable[[sqlite3.Connection], T | None], seconds: float) -> T | None:
        deadline = monotonic() + seconds
        while True:
            self._news.clear()
            try:
                with database.reader(self._inbound, busy_seconds=_BUSY_SECONDS) as connection:
                    found = find(connection)
            except FileTrouble:  # the host writes it at this moment
                found = None
            if found is not None:
                return found
            remaining = deadline - monotonic()
            if remaining <= 0:
                return None
            try:
                async with asyncio.timeout(min(remaining, self._poll_seconds)):
                    await self._news.wait()
            except TimeoutError:
                continue


def _answer(connection: sqlite3.Connection, message_id: str, after: int) -> Answer | None:
    row = connection.execute(ANSWERS, (after, message_id)).fetchone()
    return None if row is None else decode(row["content"])
