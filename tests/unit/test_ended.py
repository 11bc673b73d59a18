"""What has ended in the ledger since it was last asked, each row once."""

from __future__ import annotations

import pytest

from host.central import ingest
from host.central.database import Transaction
from host.central.ended import MESSAGES, TRACED_MESSAGES, EndedFeed
from host.central.sessions import Session
from shared_schema.rows import MessageInStatus
from tests.support.transaction import at
from tests.unit.registry import LATER, accepted_values, add_agent, add_session


@pytest.fixture
def session(registry: Transaction) -> Session:
    return add_session(registry, add_agent(registry))


def accept(registry: Transaction, session: Session) -> str:
    row, _ = ingest.accept(registry, accepted_values(session))
    return row.message_id


def end(registry: Transaction, session: Session, message_id: str) -> None:
    assert ingest.finish(at(registry, LATER), session.id, message_id, MessageInStatus.COMPLETED)


@pytest.mark.parametrize("statement", [MESSAGES, TRACED_MESSAGES], ids=["numbers", "traces"])
def test_what_has_ended_is_told_once_while_an_older_message_is_still_open(
    registry: Transaction, session: Session, statement: str
) -> None:
    feed = EndedFeed(statement)
    assert feed.read(registry) == ([], 0)
    long_one = accept(registry, session)
    for _ in range(3):
        end(registry, session, accept(registry, session))
    told, new = feed.read(registry)
    assert (len(told), new) == (3, 4)

    assert feed.read(registry) == ([], 0), "nothing has happened since"
    assert feed.read(registry) == ([], 0), "and the look before has forgotten nothing"

    end(registry, session, long_one)
    told, new = feed.read(registry)
    assert (len(told), new) == (1, 0)
    assert feed.read(registry) == ([], 0)
