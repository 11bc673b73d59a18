"""Whether the next agent of a session can go on with the file that the last one left."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.sessions import outbox_schema_check
from host.sessions.folder import Owner, make_session_folder
from host.sessions.hard_link import JOURNAL
from shared_schema.database import writer
from shared_schema.errors import FileBusy, FileDamaged
from shared_schema.layout import SessionLayout


@pytest.fixture
def layout(tmp_path: Path) -> SessionLayout:
    """A fresh session folder."""
    layout = SessionLayout(tmp_path / "agr_1" / "ses_1")
    make_session_folder(layout, Owner.of_agents(10001))
    return layout


def change(layout: SessionLayout, *statements: str) -> None:
    with writer(layout.outbound) as connection:
        for statement in statements:
            connection.execute(statement)


def test_what_the_host_made_is_good(layout: SessionLayout) -> None:
    outbox_schema_check.require_schema(layout)


def test_a_file_in_mid_commit_says_nothing_yet(layout: SessionLayout) -> None:
    (layout.out / JOURNAL).write_bytes(bytes(600))
    with pytest.raises(FileBusy):
        outbox_schema_check.require_schema(layout)


def test_what_a_newer_agent_added_is_good(layout: SessionLayout) -> None:
    change(layout, "ALTER TABLE turns ADD COLUMN mood TEXT", "CREATE TABLE more (a)", "CREATE VIEW seen AS SELECT 1")
    outbox_schema_check.require_schema(layout)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["PRAGMA user_version = 0"], "version is 0"),
        (["PRAGMA user_version = -1"], "version is -1"),
        (["DROP TABLE steps"], r"steps\."),
        (["ALTER TABLE session_state RENAME COLUMN value TO worth"], r"session_state\.value"),
        (["DROP TABLE turns", "CREATE VIEW turns AS SELECT 1 AS id"], r"turns\."),
        (["DROP TABLE agent_state", "CREATE TABLE agent_state (id, state)"], r"agent_state\."),
        (["PRAGMA user_version = 1"], r"has turns\.\w+ of a later one"),
        (["PRAGMA user_version = 1", "ALTER TABLE turns RENAME COLUMN generation TO GENERATION"], "of a later one"),
        (["CREATE TRIGGER no BEFORE INSERT ON turns BEGIN SELECT raise(ABORT, 'no'); END"], "trigger no"),
    ],
    ids=[
        "version 0",
        "version -1",
        "no table",
        "a renamed column",
        "a view",
        "other columns",
        "columns of a later version",
        "columns of a later version in capitals",
        "a trigger",
    ],
)
def test_what_would_make_each_agent_fail_is_damage(layout: SessionLayout, statements: list[str], reason: str) -> None:
    change(layout, *statements)
    with pytest.raises(FileDamaged, match=reason):
        outbox_schema_check.require_schema(layout)
