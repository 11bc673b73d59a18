"""FAILURES 48: the power fails under a running host. What was reported as done is there afterwards, and work goes on.

What a disk holds at a moment is copied (`tests/support/power.py`) just after a message was reported as accepted, and
just after its answer was delivered. On each copy the three databases are compared with each other and with what was
reported, and some go on with a host of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared_schema.layout import DataLayout
from tests.support.daemon import Daemon
from tests.support.power import FILE_SYSTEMS, LoopDisk, loop_disk
from tests.support.wait import until_sync

WRITTEN = "SELECT message_id, session_id, agent_group_id FROM ingest WHERE state = 'written' AND kind <> 'command'"
REPORTED = "SELECT in_reply_to FROM terminal_mailbox"


@dataclass
class Loss:
    """What was reported and is not on the disk."""

    accepted: list[str] = field(default_factory=list)  # by the command that handed it in
    delivered: list[str] = field(default_factory=list)  # to the terminal
    inbound: list[str] = field(default_factory=list)  # the ledger says `written`
    outbound: list[str] = field(default_factory=list)  # the ledger has read further than there is
    damaged: list[str] = field(default_factory=list)


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    """Rows of a file as the next opener finds it: with write access, so that it rolls back what it has to."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def look_for_losses(data: Path, accepted: set[str], answered: set[str]) -> Loss:
    """Compare the three databases of a data folder with each other and with what was reported."""
    layout, loss = DataLayout(data), Loss()
    files = [layout.central, *data.glob("sessions/*/*/inbound.db"), *data.glob("sessions/*/*/out/outbound.db")]
    for path in files:
        if query(path, "PRAGMA integrity_check") != [("ok",)]:
            loss.damaged.append(path.name)
    known = {str(row[0]) for row in query(layout.central, "SELECT message_id FROM ingest")}
    loss.accepted = sorted(accepted - known)
    told = {str(row[0]) for row in query(layout.central, REPORTED)}
    loss.delivered = sorted(answered - told)
    for message, session, group in query(layout.central, WRITTEN):
        inbound = layout.session(str(group), str(session)).inbound
        if not inbound.exists() or (message,) not in query(inbound, "SELECT id FROM messages_in"):
            loss.inbound.append(str(message))
    for session, group, cursor in query(layout.central, "SELECT id, agent_group_id, out_cursor FROM sessions"):
        outbound = layout.session(str(group), str(session)).outbound
        last = query(outbound, "SELECT coalesce(max(seq), 0) FROM messages_out")[0][0]
        assert isinstance(last, int)
        assert isinstance(cursor, int)
        if last < cursor:
            loss.outbound.append(f"{last} of {cursor}")
    return loss


class Talk:
    """Somebody at the terminal of a host, who remembers what was reported."""

    def __init__(self, host: Daemon) -> None:
        self.host = host
        self.accepted: set[str] = set()
        self.answered: set[str] = set()

    def say(self, text: str) -> str:
        (written,) = self.host.call("message.inject", messaging_group="cli:terminal", text=text)["accepted"]
        self.accepted.add(written["message_id"])
        return str(written["message_id"])

    def hear(self, message: str) -> None:
        """Wait until the answer is at the terminal."""
        until_sync(lambda: message in self._told(), f"{message} is answered")
        self.answered.add(message)

    def _told(self) -> set[str]:
        return {row["in_reply_to"] for row in self.host.rows(REPORTED)}

    def writers(self) -> list[int]:
        assert self.host.process is not None
        return [self.host.process.pid, *self.host.agents()]


def goes_on(data: Path, talk: Talk) -> None:
    """A host on what was found answers all that was accepted, once, and what is said next."""
    host = Daemon(data)
    try:
        host.start()
        after = host.run("chat", "-m", "after the cut", "--timeout", "60")
        assert after.returncode == 0, after.stderr
        assert after.stdout.startswith("after the cut")
        host.settle()
        told = [row["in_reply_to"] for row in host.rows(REPORTED)]
        assert len(told) == len(set(told)), "nothing is answered twice"
        assert talk.accepted <= set(told), "and nothing is left without an answer"
    finally:
        host.close()


def cut_again_and_again(disk: LoopDisk, rounds: int, going_on: set[int]) -> list[Loss]:
    """Talk, and cut the power at two moments of each exchange; what was lost each time."""
    host = Daemon(disk.folder / "data")
    losses = []
    try:
        host.start()
        talk = Talk(host)
        talk.hear(talk.say("hello"))
        for number in range(rounds):
            message = talk.say(f"number {number}")
            if number % 2:
                talk.hear(message)
            with disk.cut(talk.writers()) as image:
                with disk.mounted(image) as found:
                    losses.append(look_for_losses(found / "data", talk.accepted, talk.answered))
                if number in going_on:
                    host.kill()  # after a cut no process serves the install that is found again
                    host.kill_agents()
                    with disk.away(), disk.mounted(image) as found:
                        goes_on(found / "data", talk)
                    host.start()
            if not number % 2:
                talk.hear(message)
    finally:
        host.close()
    return losses


@pytest.fixture
def ext4() -> Iterator[LoopDisk]:
    with loop_disk("ext4") as disk:
        yield disk


def test_failure_48_after_a_power_cut_all_that_was_reported_is_there_and_the_next_answer_is_delivered(
    ext4: LoopDisk,
) -> None:
    assert cut_again_and_again(ext4, rounds=4, going_on={3}) == [Loss()] * 4


@pytest.mark.full
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_the_same_on_every_file_system_that_can_be_had(kind: str) -> None:
    with loop_disk(kind) as disk:
        assert cut_again_and_again(disk, rounds=50, going_on=set(range(0, 50, 7))) == [Loss()] * 50
