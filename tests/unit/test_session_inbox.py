"""The writer of `inbound.db`: one transaction, and everything can be repeated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from host.sessions import inbox
from host.sessions.folder import Owner, make_session_folder
from host.sessions.inbox import NewMessage, Push, StatusUpdate
from shared_schema.database import reader
from shared_schema.errors import FileTrouble
from shared_schema.layout import SessionLayout
from shared_schema.rows import Address, ContextKey, Delivered, Destination

ONE = Address("memory", "one", "t1")
HOME = Destination("home", "Home", "messaging_group", "memory", "home", None)
WORK = Destination("work", None, "messaging_group", "memory", "work", None)
SENT = Delivered("msg_out", "delivered", "p1", None, 1, "t")


@pytest.fixture
def session(tmp_path: Path) -> SessionLayout:
    """A fresh session folder."""
    layout = SessionLayout(tmp_path / "agr_1" / "ses_1")
    make_session_folder(layout, Owner.of_agents(10001))
    return layout


def message(number: int, **changes: Any) -> NewMessage:
    base = NewMessage(f"msg_{number}", "chat", "t", 1, 1, ONE, "ann", "Ann", f'{{"text":"number {number}"}}')
    return dataclasses.replace(base, **changes)


def push(*destinations: Destination, routing: Address | None = ONE, **context: str) -> Push:
    return Push(routing, destinations, {ContextKey(key): value for key, value in context.items()})


def table(session: SessionLayout, name: str) -> list[dict[str, Any]]:
    with reader(session.inbound) as connection:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]


def everything(session: SessionLayout) -> dict[str, list[dict[str, Any]]]:
    names = ("messages_in", "delivered", "destinations", "session_routing", "session_context")
    return {name: table(session, name) for name in names}


def test_messages_get_their_place_in_the_order_they_are_written(session: SessionLayout) -> None:
    inbox.update(session, messages=[message(1), message(2)])
    inbox.update(session, messages=[message(3)])
    rows = table(session, "messages_in")
    assert [(row["seq"], row["id"], row["content"]) for row in rows] == [
        (number, f"msg_{number}", f'{{"text":"number {number}"}}') for number in (1, 2, 3)
    ]
    assert {(row["channel_type"], row["platform_id"], row["thread_id"]) for row in rows} == {("memory", "one", "t1")}


def test_doing_it_again_changes_nothing(session: SessionLayout) -> None:
    update: dict[str, Any] = {
        "messages": [message(1), message(2)],
        "push": push(HOME, WORK, generation="1", context="You are here."),
        "statuses": [StatusUpdate("msg_1", "completed", 1)],
        "delivered": [SENT],
    }
    inbox.update(session, **update)
    before = everything(session)
    for _ in range(3):
        inbox.update(session, **update)
    assert everything(session) == before
    assert [len(rows) for rows in before.values()] == [2, 1, 2, 1, 2]


def test_a_message_that_is_there_is_left_as_it_is(session: SessionLayout) -> None:
    inbox.update(session, messages=[message(1)], statuses=[StatusUpdate("msg_1", "completed", 2)])
    inbox.update(session, messages=[message(1, content='{"text":"changed"}', generation=7)])
    (row,) = table(session, "messages_in")
    assert (row["content"], row["generation"], row["status"], row["tries"]) == (
        '{"text":"number 1"}',
        1,
        "completed",
        2,
    )


def test_destinations_and_context_are_replaced_whole(session: SessionLayout) -> None:
    inbox.update(session, push=push(HOME, WORK, generation="1", model="big"))
    renamed = dataclasses.replace(WORK, display_name="The office")
    inbox.update(session, push=push(renamed, generation="2", routing=Address("memory", "two")))
    assert table(session, "destinations") == [dataclasses.asdict(renamed)]
    assert table(session, "session_context") == [{"key": "generation", "value": "2"}]
    assert table(session, "session_routing") == [
        {"id": 1, "channel_type": "memory", "platform_id": "two", "thread_id": None}
    ]


def test_a_push_that_fails_in_the_middle_changes_nothing_at_all(session: SessionLayout) -> None:
    inbox.update(session, messages=[message(1)], push=push(HOME, generation="1"))
    before = session.inbound.read_bytes()
    impossible = dataclasses.replace(WORK, type="impossible")
    with pytest.raises(FileTrouble):
        inbox.update(session, messages=[message(2)], push=push(impossible, generation="2"))
    assert session.inbound.read_bytes() == before


def test_what_another_host_may_write_by_now_is_not_written(session: SessionLayout) -> None:
    inbox.update(session, messages=[message(1)])
    before = session.inbound.read_bytes()

    def another_may() -> None:
        raise FileTrouble("another host may serve this data folder by now")

    with pytest.raises(FileTrouble, match="another host"):
        inbox.update(session, messages=[message(2)], require_sole=another_may)
    assert session.inbound.read_bytes() == before


@pytest.mark.parametrize(
    "bad",
    [
        {"messages": [message(2), message(3, content="not JSON")]},
        {"messages": [message(2), message(3, kind="unheard-of")]},
        {"messages": [message(2), message(3, trigger=2)]},
        {"messages": [message(2)], "statuses": [StatusUpdate("msg_1", "unheard-of", 0)]},
        {"messages": [message(2)], "delivered": [dataclasses.replace(SENT, status="unheard-of")]},
    ],
    ids=["content", "kind", "trigger", "status", "delivered"],
)
def test_one_bad_row_leaves_the_file_as_it_was(session: SessionLayout, bad: dict[str, Any]) -> None:
    inbox.update(session, messages=[message(1)])
    before = session.inbound.read_bytes()
    with pytest.raises(FileTrouble):
        inbox.update(session, **bad)
    assert session.inbound.read_bytes() == before


def test_a_later_word_about_a_delivery_replaces_the_earlier_one(session: SessionLayout) -> None:
    inbox.update(session, delivered=[dataclasses.replace(SENT, status="uncertain", attempts=1)])
    inbox.update(session, delivered=[dataclasses.replace(SENT, status="failed", attempts=3, error="gone")])
    (row,) = table(session, "delivered")
    assert (row["status"], row["attempts"], row["error"]) == ("failed", 3, "gone")


def test_a_status_of_a_message_that_is_not_there_is_no_error(session: SessionLayout) -> None:
    inbox.update(session, statuses=[StatusUpdate("msg_9", "completed", 0)])
    assert table(session, "messages_in") == []


def test_a_session_without_a_folder_is_trouble_and_no_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble):
        inbox.update(SessionLayout(tmp_path / "nowhere"), messages=[message(1)])
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_an_older_host_is_brought_up_to_date_by_the_first_write(session: SessionLayout) -> None:
    session.inbound.write_bytes(b"")  # version 0: before the first step
    inbox.update(session, messages=[message(1)])
    assert [row["id"] for row in table(session, "messages_in")] == ["msg_1"]
