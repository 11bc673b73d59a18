"""The reader of `inbound.db`, which the host alone writes.

Invariant: the file is opened read-only for every read, in one snapshot, and closed; nothing is kept between reads.
How much is read does not depend on how long the session is: only rows of the partial index `messages_in_pending`,
page by page, until there is enough for one batch.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import field
from pathlib import Path

from container_agent.context import SessionContext
from container_agent.fence import Fence, no_fence
from shared_schema import database
from shared_schema.dataclass import dataclass
from shared_schema.late_mount import unchanged
from shared_schema.migrate import INBOUND, require_readable
from shared_schema.rows import ContextKey, Destination, MessageIn

BUSY_SECONDS = 0.25  # the host's transactions are short, and waiting here stops the agent's event loop
PAGE_ROWS = 100

# Every key and value the host set for this session.
CONTEXT = "SELECT key, value FROM session_context"

# The names under which this agent may send.
DESTINATIONS = (
    "SELECT name, display_name, type, channel_type, platform_id, agent_group_id FROM destinations ORDER BY name"
)

# The next page of pending rows of one generation.
PENDING = """
SELECT seq, id, kind, timestamp, generation, trigger, status, tries, process_after, channel_type,
       platform_id, thread_id, sender_id, sender_name, source_session_id, content
FROM messages_in INDEXED BY messages_in_pending
WHERE status = 'pending' AND generation = :generation AND seq > :after
ORDER BY seq LIMIT :rows
"""


# Which of a JSON array of messages that went out failed, or may have.
UNDELIVERED = """
SELECT message_out_id, status, error FROM delivered
WHERE message_out_id IN (SELECT value FROM json_each(?)) AND status IN ('failed', 'uncertain')
"""

# Where a message stands: id.
SEQ = "SELECT seq FROM messages_in WHERE id = ?"

# The generation, the present run, and those of a JSON array of message ids that have no outcome, as another.
STANDING = """
SELECT (SELECT value FROM session_context WHERE key = 'generation') AS generation,
    (SELECT value FROM session_context WHERE key = 'run') AS run,
    (SELECT json_group_array(id) FROM messages_in
        WHERE id IN (SELECT value FROM json_each(?)) AND status = 'pending') AS pending
"""


@dataclass(frozen=True, slots=True)
class InboxSnapshot:
    """What one read of `inbound.db` found, all from one snapshot. `pending` holds no acknowledged rows.

    `is_complete` says that no more rows are pending than these. `undelivered` has a sentence for each message of the
    agent's own that never arrived and that the model has not heard of yet, by its id; it is empty where nothing is
    pending.
    """

    context: SessionContext
    destinations: tuple[Destination, ...]
    pending: tuple[MessageIn, ...]
    is_complete: bool = True
    undelivered: Mapping[str, str] = field(default_factory=dict)


class Inbox:
    """Reads one `inbound.db`.

    `acknowledged` says which of some message ids the agent has acknowledged before. `sent` gives the agent's newest
    messages of a generation whose failure it has not heard of: their names by their ids.
    """

    def __init__(
        self,
        path: Path,
        acknowledged: Callable[[Collection[str]], set[str]],
        sent: Callable[[int], Mapping[str, str]] = lambda generation: {},
        fence: Fence | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self._shared = shared
        self._path = path
        self._acknowledged = acknowledged
        self._sent = sent
        self._fence = fence or no_fence()
        self._parsed: tuple[dict[str, str | None], SessionContext] | None = None

    def read(self) -> InboxSnapshot:
        """One snapshot of what the host wrote.

        Raises `FileTrouble` when the file cannot be read at the moment, `NewerSchema` or `IncompatibleContract` when it
        was written for another version, `Superseded` when it names another run than this.
        """
        with self._reader() as connection:
            require_readable(connection, INBOUND)
            values = {row["key"]: row["value"] for row in connection.execute(CONTEXT)}
            self._fence.require(values.get(ContextKey.RUN))
            context = self._context_of(values)
            pending = tuple(self._pending(connection, context))
            if not pending:
                return InboxSnapshot(context, (), ())
            return InboxSnapshot(
                context=context,
                destinations=tuple(map(Destination.from_row, connection.execute(DESTINATIONS))),
                pending=pending,
                is_complete=len(pending) < PAGE_ROWS,  # with a whole page there may be more behind it
                undelivered=self._undelivered(connection, context.generation),
            )

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """The file for one read, which sees one state of it: on a shared mount that is not left to locks."""
        still = unchanged(self._path.parent, self._path.name) if self._shared else nullcontext()
        with still, database.reader(self._path, busy_seconds=BUSY_SECONDS) as connection:
            yield connection

    def _context_of(self, values: dict[str, str | None]) -> SessionContext:
        """The context of these values, parsed again only when they are others than the last time."""
        if self._parsed is None or self._parsed[0] != values:
            self._parsed = (values, SessionContext.from_values(values))
        return self._parsed[1]

    def wanted(self, message_ids: Sequence[str], generation: int) -> frozenset[str]:
        """Of these messages those that the host still waits for, in a turn begun in that generation.

        It does not wait for one that it has given an outcome of its own, nor for any once it has begun another
        generation. Raises `FileTrouble`, `Superseded`.
        """
        with self._reader() as connection:
            row = connection.execute(STANDING, (json.dumps(message_ids),)).fetchone()
        self._fence.require(row["run"])
        context = SessionContext.from_values({ContextKey.GENERATION: row["generation"]})
        return frozenset(json.loads(row["pending"])) if context.generation == generation else frozenset()

    def name_of(self, message_id: str) -> str | None:
        """`in-<seq>` for the id of a message that came in. Raises `FileTrouble`."""
        with self._reader() as connection:
            row = connection.execute(SEQ, (message_id,)).fetchone()
        return None if row is None else f"in-{row['seq']}"

    def _undelivered(self, connection: sqlite3.Connection, generation: int) -> dict[str, str]:
        names = self._sent(generation)
        rows = connection.execute(UNDELIVERED, (json.dumps(list(names)),)) if names else ()
        return {
            row["message_out_id"]: f"your message {names[row['message_out_id']]} did not arrive: "
            f"{row['error'] or row['status']}"
            for row in rows
        }

    def _pending(self, connection: sqlite3.Connection, context: SessionContext) -> Iterator[MessageIn]:
        """Unacknowledged rows in order, up to `max_batch` that trigger and need not wait: enough for any batch."""
        after, enough = 0, context.max_batch
        while True:
            values = {"generation": context.generation, "after": after, "rows": PAGE_ROWS}
            page = [MessageIn.from_row(row) for row in connection.execute(PENDING, values)]
            done = self._acknowledged([row.id for row in page]) if page else set()
            for row in page:
                if row.id not in done:
                    yield row
                    enough -= bool(row.trigger) and row.process_after is None
            if len(page) < PAGE_ROWS or enough <= 0:
                return
            after = page[-1].seq
