"""The plug is pulled on the host while it carries out what somebody asked it in a chat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from host.api.client import HostGone
from tests.support.failpoints import MortalDaemon, Point, arm, mortal
from tests.support.outcomes import AGENT, Conversation
from tests.support.short import in_short

COMMANDS = "host.operations.commands"

ANSWERS = "SELECT content FROM terminal_mailbox WHERE platform_id = ? AND content LIKE '%Taken back%'"
# fmt: off
WHILE_TAKING_BACK = (
    Point("command: accepted, not begun", COMMANDS, "Executor._carry_out", "await carry_out(order)"),
    Point("command: answered, not committed", "host.central.database", "Central._commit", 'execute("COMMIT")', 2),
    Point("command: committed, nobody told", "host.central.database", "Central._commit", "done.set_result(", 2),
)
# fmt: on


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalDaemon]:
    with mortal(tmp_path_factory.mktemp("host") / "data", "host", "run", "--data", STOP_SECONDS="0.2") as host:
        host.call("agent_group.set", name=AGENT, provider="scripted")
        yield host


@pytest.mark.parametrize("point", in_short(WHILE_TAKING_BACK, "command: answered, not committed"))
def test_a_command_is_carried_out_and_answered_once(host: MortalDaemon, point: Point) -> None:
    people = Conversation(host)
    for text in ("one", "two", "three"):
        people.ask(people.one, text)
        people.settle()
    arm(host.folder, point.plan)
    with suppress(HostGone):
        host.call("message.inject", messaging_group=people.address(people.one), text="/undo")
    host.dies(point)
    host.start()
    people.settle()
    taken_back = host.rows("SELECT content FROM ingest WHERE platform_id = ? AND withdrawn = 1", people.one)
    assert [row["content"] for row in taken_back] == ['{"text":"three"}']
    answers = host.rows(
        "SELECT content FROM terminal_mailbox WHERE platform_id = ? AND content LIKE '%Taken%'", people.one
    )
    assert len(answers) == 1
    host.end_agents()
