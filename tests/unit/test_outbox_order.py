"""The place of a message in `outbound.db` is a number, and no trick with it hides another message."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.sessions import outbox
from host.sessions.folder import Owner, make_session_folder
from shared_schema.database import writer
from shared_schema.errors import FileDamaged
from shared_schema.layout import SessionLayout

INSERT = "INSERT INTO messages_out (seq, id, generation, timestamp, kind, content) VALUES (?, ?, 1, '', 'chat', '{}')"


@pytest.fixture
def layout(tmp_path: Path) -> SessionLayout:
    """A fresh session folder."""
    layout = SessionLayout(tmp_path / "agr_1" / "ses_1")
    make_session_folder(layout, Owner.of_agents(10001))
    return layout


def read(layout: SessionLayout) -> outbox.OutboxSnapshot:
    return outbox.read(layout, out_cursor=0, turn_cursor=0, open_messages=[], running_turns=[])


@pytest.mark.parametrize(
    "seq", ["seq", "seq INTEGER", "seq TEXT PRIMARY KEY", "seq INT PRIMARY KEY", "other INTEGER PRIMARY KEY, seq"]
)
def test_a_table_without_its_key_is_damage_for_rows_could_hide_in_it(layout: SessionLayout, seq: str) -> None:
    with writer(layout.outbound) as connection:
        connection.execute("DROP TABLE messages_out")
        connection.execute(
            f"CREATE TABLE messages_out ({seq}, id, turn_id, in_reply_to, generation, timestamp, deliver_after, kind, "
            "destination, channel_type, platform_id, thread_id, content)"
        )
        connection.execute(INSERT, (1, "msg_1"))
    with pytest.raises(FileDamaged, match="key"):
        read(layout)


def test_a_jump_that_would_shut_out_all_that_follows_is_damage(layout: SessionLayout) -> None:
    with writer(layout.outbound) as connection:
        connection.executemany(INSERT, [(1, "msg_1"), (2**62, "msg_far")])
    with pytest.raises(FileDamaged, match="jump"):
        read(layout)


def test_messages_are_read_in_the_order_of_their_places(layout: SessionLayout) -> None:
    with writer(layout.outbound) as connection:
        connection.executemany(INSERT, [(7, "msg_7"), (2, "msg_2"), (-1, "msg_before")])
    snapshot = read(layout)
    assert [message.id for message in snapshot.messages] == ["msg_2", "msg_7"]
    assert snapshot.out_cursor == 7
