"""An agent and the host that made its file are at most one version apart."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from container_agent.outbox import Outbox
from container_agent.providers.protocol import Reply, TurnResult, Usage
from host.sessions import outbox, outbox_schema_check
from host.sessions.folder import Owner, make_session_folder
from shared_schema.clock import ManualClock
from shared_schema.database import open_reader, open_writer
from shared_schema.errors import FileDamaged, NewerSchema
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from shared_schema.migrate import OUTBOUND, migrate, version_of
from shared_schema.rows import Turn
from tests.agent.session import BareSession, agent, until
from tests.agent.test_batch import PLAIN
from tests.agent.test_process import answered

NEWER = ("ALTER TABLE turns ADD COLUMN mood TEXT", "CREATE TABLE dreams (id INTEGER PRIMARY KEY)")


@pytest.fixture
def layout(tmp_path: Path) -> SessionLayout:
    """A session folder as the host makes it."""
    made = SessionLayout(tmp_path / "agr_1" / "ses_1")
    make_session_folder(made, Owner.of_agents(10001))
    return made


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(path)) as connection:
        yield connection


def version(path: Path) -> int:
    with closing(open_reader(path)) as connection:
        return version_of(connection)


def age(path: Path, version: int, *statements: str) -> None:
    with opened(path) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version:d}")


def turns_of(layout: SessionLayout) -> list[Turn]:
    return outbox.read(layout, out_cursor=0, turn_cursor=0, open_messages=[], running_turns=[]).turns


def end_one_turn(layout: SessionLayout) -> None:
    with closing(Outbox(layout, ManualClock())) as writer:
        turn = writer.begin_turn((PLAIN,), generation=3, provider="echo", model="")
        result = TurnResult([Reply("hello")], usage=Usage(reasoning_tokens=5), context_tokens=7, resume_refused=True)
        writer.end_turn(turn, result, [new_id(Prefix.MESSAGE)])


def test_the_host_makes_a_file_for_an_agent_one_version_older_and_an_agent_brings_it_up(layout: SessionLayout) -> None:
    assert version(layout.outbound) == OUTBOUND.version - 1
    end_one_turn(layout)
    assert version(layout.outbound) == OUTBOUND.version
    [turn] = turns_of(layout)
    assert (turn.generation, turn.reasoning_tokens, turn.context_tokens, turn.resume_refused) == (3, 5, 7, 1)


def test_the_host_reads_what_an_agent_one_version_older_wrote(layout: SessionLayout) -> None:
    with opened(layout.outbound) as connection:
        connection.execute(
            "INSERT INTO turns (id, status, started_at, input_tokens) VALUES ('trn_1', 'completed', 'now', 4)"
        )
    [turn] = turns_of(layout)
    assert (turn.id, turn.input_tokens, turn.generation, turn.resume_refused) == ("trn_1", 4, None, 0)


def test_the_host_reads_what_an_agent_one_version_newer_wrote(layout: SessionLayout) -> None:
    end_one_turn(layout)
    age(layout.outbound, OUTBOUND.version + 1, *NEWER)
    assert [turn.generation for turn in turns_of(layout)] == [3]
    age(layout.outbound, OUTBOUND.version + 2)
    with pytest.raises(NewerSchema):
        turns_of(layout)


def test_a_file_that_lies_about_its_version_is_damaged(layout: SessionLayout) -> None:
    with opened(layout.outbound) as connection:
        connection.execute("INSERT INTO turns (id, status, started_at) VALUES ('trn_1', 'completed', 'now')")
    age(layout.outbound, OUTBOUND.version)
    with pytest.raises(FileDamaged):
        turns_of(layout)
    with pytest.raises(FileDamaged, match=r"turns\."):
        outbox_schema_check.require_schema(layout)
    age(layout.outbound, OUTBOUND.version - 1)
    outbox_schema_check.require_schema(layout)


def test_an_agent_writes_into_a_file_one_version_newer_and_leaves_its_version(session: BareSession) -> None:
    age(session.layout.outbound, OUTBOUND.version + 1, *NEWER)
    with agent(session):
        session.say("hello")
        until(lambda: answered(session, 1))
    assert version(session.layout.outbound) == OUTBOUND.version + 1
    assert session.turns() == ["completed"]


def test_an_agent_leaves_a_file_two_versions_newer_alone(session: BareSession) -> None:
    age(session.layout.outbound, OUTBOUND.version + 2)
    with pytest.raises(NewerSchema):
        Outbox(session.layout, ManualClock())


def test_an_agent_goes_on_in_a_file_of_the_version_before_with_its_rows(session: BareSession, tmp_path: Path) -> None:
    session.layout.outbound.unlink()
    with closing(open_writer(session.layout.outbound, create=True)) as connection:
        migrate(connection, OUTBOUND, to=OUTBOUND.version - 1)
        connection.execute("INSERT INTO turns (id, status, started_at) VALUES ('trn_1', 'running', 'now')")
        connection.execute(
            "INSERT INTO session_state (key, value, updated_at) VALUES ('resume', ?, '')",
            ('{"generation":1,"pointer":"of version 1"}',),
        )
    session.context(provider="scripted")
    session.say("resumed")
    with agent(session):
        until(lambda: answered(session, 1))
    assert session.turns() == ["failed", "completed"]
    assert session.replies() == ["resumed: of version 1"]
