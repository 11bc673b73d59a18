"""The reader of inbound.db."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

import pytest

from container_agent.context import IncompatibleContract, SessionContext
from container_agent.inbox import PAGE_ROWS, PENDING, Inbox
from shared_schema.database import open_reader
from shared_schema.errors import FileBusy, FileDamaged, NewerSchema
from shared_schema.migrate import CONTRACT_VERSION, INBOUND
from tests.agent.session import BareSession


def none_of(_: Collection[str]) -> set[str]:
    return set()


def texts(session: BareSession) -> list[str]:
    return [row.text for row in Inbox(session.layout.inbound, none_of).read().pending]


def test_without_a_context_the_defaults_hold(session: BareSession) -> None:
    assert Inbox(session.layout.inbound, none_of).read().context == SessionContext()


def test_the_context_is_what_the_host_wrote(session: BareSession) -> None:
    session.context(generation=4, provider="scripted", max_batch=3, turn_seconds=1.5, resume="p", contract_version=1)
    expected = SessionContext(generation=4, provider="scripted", max_batch=3, turn_seconds=1.5, resume="p")
    assert Inbox(session.layout.inbound, none_of).read().context == expected


def test_a_context_of_a_far_version_is_refused_and_of_the_next_one_is_not(session: BareSession) -> None:
    for version in (CONTRACT_VERSION - 1, CONTRACT_VERSION + 1):
        session.context(contract_version=version)
        Inbox(session.layout.inbound, none_of).read()
    session.context(contract_version=CONTRACT_VERSION + 2)
    with pytest.raises(IncompatibleContract):
        Inbox(session.layout.inbound, none_of).read()


@pytest.mark.parametrize("value", ["many", "nan", "inf", "9" * 400, str(2**63)])
def test_a_number_that_is_none_or_too_large_is_a_damaged_file(session: BareSession, value: str) -> None:
    session.context(max_batch=value)
    with pytest.raises(FileDamaged):
        Inbox(session.layout.inbound, none_of).read()


def test_a_file_two_versions_ahead_is_refused_and_one_ahead_is_not(session: BareSession) -> None:
    session.write(f"PRAGMA user_version = {INBOUND.version + 1}")
    Inbox(session.layout.inbound, none_of).read()
    session.write(f"PRAGMA user_version = {INBOUND.version + 2}")
    with pytest.raises(NewerSchema):
        Inbox(session.layout.inbound, none_of).read()


def test_a_missing_file_is_busy_and_an_alien_one_damaged(session: BareSession) -> None:
    session.layout.inbound.unlink()
    with pytest.raises(FileBusy):
        Inbox(session.layout.inbound, none_of).read()
    session.layout.inbound.write_bytes(b"not a database, but long enough to be taken for one" * 20)
    with pytest.raises(FileDamaged):
        Inbox(session.layout.inbound, none_of).read()


def test_only_as_much_is_read_as_a_batch_can_take(session: BareSession) -> None:
    session.say_all(["m"] * PAGE_ROWS * 3)
    assert len(texts(session)) == PAGE_ROWS


def test_a_trigger_behind_many_acknowledged_and_context_rows_is_found(session: BareSession) -> None:
    done = set(session.say_all(["done"] * PAGE_ROWS * 2))
    session.say_all(["context"] * (PAGE_ROWS + 1), trigger=0)
    session.say("asked")
    snapshot = Inbox(session.layout.inbound, lambda ids: done & set(ids)).read()
    assert [row.text for row in snapshot.pending] == ["context"] * (PAGE_ROWS + 1) + ["asked"]


def test_finished_rows_are_not_even_looked_at(session: BareSession) -> None:
    session.say_all(["old"] * 50, status="completed")
    session.say("new")
    assert texts(session) == ["new"]
    with closing(open_reader(session.layout.inbound)) as connection:
        values = {"generation": 1, "after": 0, "rows": 1}
        [plan] = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {PENDING}", values)]
    assert "USING INDEX messages_in_pending" in plan


def test_destinations_come_along_with_what_is_pending(session: BareSession) -> None:
    session.say("new")
    session.write("INSERT INTO destinations (name, type, channel_type) VALUES ('ops', 'messaging_group', 'cli')")
    [destination] = Inbox(session.layout.inbound, none_of).read().destinations
    assert (destination.name, destination.type, destination.platform_id) == ("ops", "messaging_group", None)
