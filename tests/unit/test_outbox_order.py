"""The order in which an agent's messages are taken cannot be made anything but numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.sessions import outbox
from host.sessions.folder import Owner, make_session_folder
from shared_schema.database import writer
from shared_schema.layout import SessionLayout

REMADE = """
CREATE TABLE messages_out (seq, id, turn_id, in_reply_to, generation, timestamp, deliver_after, kind, destination,
    channel_type, platform_id, thread_id, content)
"""
INSERT = "INSERT INTO messages_out (seq, id, generation, timestamp, kind, content) VALUES (?, ?, 1, 't', 'chat', '{}')"


@pytest.mark.parametrize("odd", ["zzz", "7", b"\xff", 2.5, None], ids=repr)
def test_a_place_that_is_no_number_is_never_taken_and_does_not_move_the_cursor(tmp_path: Path, odd: object) -> None:
    layout = SessionLayout(tmp_path / "agr_1" / "ses_1")
    make_session_folder(layout, Owner.of_agents(10001))
    with writer(layout.outbound) as connection:
        connection.execute("DROP TABLE messages_out")
        connection.execute(REMADE)
        connection.executemany(INSERT, [(1, "msg_1"), (odd, "msg_odd"), (3, "msg_3")])
    glimpse = outbox.read(layout, out_cursor=0, turn_cursor=0, open_messages=[], running_turns=[])
    assert [message.id for message in glimpse.messages] == ["msg_1", "msg_3"]
    assert (glimpse.out_cursor, glimpse.more) == (3, False)
