"""Making the folder of a session that was exported: both files with the rows they had, seq by seq.

The session is not in the ledger yet, so no agent of it can live. The agent's file is made as every fresh one is: beside
it, and put in its place when it is whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from host.sessions.folder import Owner, give, make_session_folder
from host.sessions.untrusted_files import sync_folder
from shared_schema.database import open_writer, transaction, translate
from shared_schema.errors import InvalidValue
from shared_schema.layout import SessionLayout
from shared_schema.migrate import OUTBOUND, migrate

INSERT_IN = """
INSERT INTO messages_in (seq, id, kind, timestamp, generation, trigger, status, channel_type, platform_id, thread_id,
    sender_id, sender_name, content)
VALUES (:seq, :message_id, :kind, :time, :generation, :trigger, 'completed', :channel_type, :platform_id, :thread_id,
    :sender_id, :sender_name, :content)
"""
INSERT_OUT = """
INSERT INTO messages_out (seq, id, turn_id, in_reply_to, generation, timestamp, kind, destination, channel_type,
    platform_id, thread_id, content)
VALUES (:seq, :message_id, :turn_id, :in_reply_to, :generation, :time, :kind, :destination, :channel_type,
    :platform_id, :thread_id, :content)
"""
INSERT_STEP = """
INSERT INTO steps (seq, turn_id, role, content, tool_name, tool_call_id, tool_calls, reasoning, usage, timestamp)
VALUES (:seq, :turn_id, :role, :content, :tool_name, :tool_call_id, :tool_calls, :reasoning, :usage, :time)
"""

Rows = Sequence[Mapping[str, Any]]


def restore(layout: SessionLayout, owner: Owner, *, messages_in: Rows, messages_out: Rows, steps: Rows) -> None:
    """Make the folder. What came in counts as answered. Blocks.

    Raises `InvalidValue` for rows that the files cannot hold, `FileTrouble`, `OSError`.
    """
    make_session_folder(layout, owner)
    draft = layout.reading / "outbound.new"
    draft.unlink(missing_ok=True)
    try:
        with closing(open_writer(layout.inbound)) as connection, transaction(connection):
            connection.executemany(INSERT_IN, messages_in)
        with closing(open_writer(draft, create=True)) as connection:
            migrate(connection, OUTBOUND, to=max(1, OUTBOUND.version - 1))  # as folder.py does
            with transaction(connection):
                connection.executemany(INSERT_OUT, messages_out)
                connection.executemany(INSERT_STEP, steps)
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError) as error:
        raise InvalidValue(f"a session's rows do not fit into its files: {error}") from error
    except sqlite3.Error as error:
        raise translate(error, layout.folder) from error
    give(draft, owner, 0o640)
    os.replace(draft, layout.outbound)
    sync_folder(layout.out)
