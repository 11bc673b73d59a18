"""The plug is pulled on the host at every step a message takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from traceback import format_exception

import pytest

from host.api.client import HostGone, NoHost
from tests.support.failpoint import Plan
from tests.support.failpoints import (
    MortalDaemon,
    Point,
    arm,
    died_at,
    disarm,
    evenly,
    is_armed,
    mortal,
    passed,
)
from tests.support.outcomes import AGENT, Conversation
from tests.support.short import in_short
from tests.support.wait import until_sync

ROUTER = "host.routing.router"
POST = "host.sessions.inbox_sync"
FILES = "host.sessions.attachments"
RUNS = "host.supervision.runs"
READING = "host.supervision.sync"
COPY = "host.delivery.copy"
DELIVER = "host.delivery.deliver"
TRANSITION = "host.operations.session_change"
ENDING = "host.operations.session_stop"
ENDINGS = "host.supervision.agent_termination"
FOLDER = "host.sessions.folder"
MIGRATE = "shared_schema.migrate"

# fmt: off
WHILE_TALKING = (
    Point("ingest: files kept, not accepted", FILES, "spool", "return names"),
    Point("ingest: not committed", "host.central.database", "Central._commit", 'execute("COMMIT")'),
    Point("ingest: committed, not acknowledged", ROUTER, "Router._keep", "if all(accepted.duplicate"),
    Point("write: read, nothing written", POST, "InboxSync.write", "layout.inbound.exists()"),
    Point("write: a file half in place", FILES, "unspool", "share_file(target / name"),
    Point("write: files in place, no row", FILES, "unspool", "sync_folder(layout.inbox)"),
    Point("write: rows inserted, not committed", "host.sessions.inbox", "update", "executemany(SET_STATUS"),
    Point("write: rows committed", POST, "InboxSync.write", "marked = submit(mark)"),
    Point("write: ledger told", POST, "InboxSync.write", "ingest.spool_in_use"),
    Point("wake: run noted", RUNS, "Runs._start", "self._inbox_sync.prepare, session"),
    Point("wake: agent started, not on record", "host.runtime.process", "ProcessRuntime._start", "_records.write("),
    Point("wake: agent on record", RUNS, "Runs._start", "return RunningAgent("),
    Point("copy: read, not checked", COPY, "Copier._candidate", "checked(row"),
    Point("copy: a file taken", FILES, "take", "taken.append(safe)"),
    Point("copy: checked, not stored", COPY, "Copier._store_rows", "answered = place.get("),
    Point("copy: stored, not committed", "host.delivery.queue", "enqueue", "if not added"),
    Point("copy: committed, nobody told", "host.dispatcher", "Dispatcher._hand_on", "self._deliverer.kick("),
    Point("deliver: not sent", DELIVER, "Deliverer._try", "await step.call()"),
    Point("deliver: sent, not recorded", DELIVER, "Deliverer._try", "_finish(delivery, DeliveryStatus.DELIVERED"),
    Point("deliver: recorded, not told", "host.dispatcher", "Dispatcher._hand_on", "self._supervisor.delivered("),
    Point("record: inbound.db not told", POST, "InboxSync.record", "inbox.update("),
    Point("record: inbound.db told", POST, "InboxSync.record", "self._central.submit(mark)"),
    Point("migrate: inbound.db half made", MIGRATE, "migrate", "PRAGMA user_version"),
    Point("migrate: outbound.db half made", MIGRATE, "migrate", "PRAGMA user_version", 2),
)
AT_THE_START = (
    Point("restart: looking for agents", "host.supervision.adopt", "adopt_known", "supervisor.adopt("),
    Point("restart: agents taken over", "host.services", "Services.start", "await self.deliverer.mark_interrupted()"),
)
AT_THE_FIRST_START = (
    Point("migrate: central.db half made", MIGRATE, "migrate", "connection.execute(statement)", 5),
    Point("migrate: central.db made, not committed", MIGRATE, "migrate", "PRAGMA user_version"),
)
IN_A_RESET = (
    Point("reset: not begun", TRANSITION, "_decided", "services.central.write(run)"),
    Point("reset: in the ledger", TRANSITION, "make_transition", "if done.before.id == session.id"),
    Point("reset: agent gone, not settled", ENDINGS, "AgentTermination._finalize", "await self._runs.finalize_run("),
    Point("reset: agent settled", ENDINGS, "AgentTermination.finalize_agent", "await self._runs.forget("),
    Point("reset: agent not stopped", TRANSITION, "end_agent", "termination.end("),
)
IN_A_DELETE = (
    Point("delete: not begun", ENDING, "remove", "services.central.write(drop)"),
    Point("delete: rows gone", ENDING, "remove", "termination.end_deleted("),
    Point("delete: agent gone", ENDING, "_forget", "remove_session_folder"),
    Point("delete: folder renamed", FOLDER, "remove_session_folder", "remove_tree(gone)"),
)
# The platform takes no key, and 9 replies are due: how many of the one being sent do not arrive, and are uncertain.
WITHOUT_A_KEY = {
    Point("keyless: noted, not sent", DELIVER, "Deliverer._try", "await step.call()"): (1, 1),
    Point("keyless: sent", DELIVER, "Deliverer._try", "_finish(delivery, DeliveryStatus.DELIVERED"): (0, 1),
    Point("keyless: recorded", "host.dispatcher", "Dispatcher._hand_on", "self._supervisor.delivered("): (0, 0),
}
# fmt: on


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalDaemon]:
    with mortal(tmp_path_factory.mktemp("host") / "data", "host", "run", "--data", STOP_SECONDS="0.2") as host:
        host.call("agent_group.set", name=AGENT, provider="scripted")
        yield host


@pytest.fixture
def host(shared: MortalDaemon) -> Iterator[MortalDaemon]:
    """One host and one data folder for many points."""
    if shared.is_dead():
        shared.start()
    yield shared
    disarm(shared.folder)
    shared.end_agents()


@pytest.fixture
def keyless(tmp_path: Path) -> Iterator[MortalDaemon]:
    """A host whose platform sends a message as often as it is told to."""
    with mortal(tmp_path / "data", "platform") as host:
        yield host


@pytest.mark.parametrize(
    "point",
    in_short(
        WHILE_TALKING,
        "ingest: committed, not acknowledged",
        "write: rows inserted, not committed",
        "wake: agent started, not on record",
        "copy: stored, not committed",
        "deliver: sent, not recorded",
        "record: inbound.db not told",
    ),
)
def test_the_host_is_killed_while_somebody_talks(host: MortalDaemon, point: Point) -> None:
    people = Conversation(host)
    arm(host.folder, point.plan)
    people.talk()
    host.dies(point)
    host.start()
    assert people.finish() == 0


@pytest.mark.parametrize("point", in_short(WITHOUT_A_KEY, "keyless: sent"))
def test_what_may_have_been_sent_without_a_key_is_uncertain_and_not_sent_again(
    keyless: MortalDaemon, point: Point
) -> None:
    people = Conversation(keyless, channel="memory")
    arm(keyless.folder, point.plan)
    people.talk()
    keyless.dies(point)
    keyless.start()
    assert people.finish() == 0
    said = [*people.said(people.one), *people.said(people.two)]
    uncertain = keyless.rows("SELECT 1 FROM deliveries WHERE status = 'uncertain'")
    missing, unsure = WITHOUT_A_KEY[point]
    of_the_other_chat = (9 - len(said) - missing, len(uncertain) - unsure)  # which was perhaps being sent to as well
    assert of_the_other_chat in ((0, 0), (0, 1), (1, 1))


@pytest.mark.parametrize("point", in_short(AT_THE_START, "restart: agents taken over"))
def test_the_host_is_killed_again_while_it_starts(host: MortalDaemon, point: Point) -> None:
    people = Conversation(host)
    people.talk()
    until_sync(host.agents, "an agent runs")
    host.kill()
    arm(host.folder, point.plan)
    host.spawn()
    host.dies(point)
    host.start()
    assert people.finish() == 0


@pytest.mark.parametrize("point", in_short(AT_THE_FIRST_START, "migrate: central.db half made"))
def test_the_host_is_killed_at_its_first_start(tmp_path: Path, point: Point) -> None:
    host = MortalDaemon(tmp_path / "data", "host", "run", "--data")
    try:
        arm(host.folder, point.plan)
        host.spawn()
        host.dies(point)
        host.start()
        host.call("agent_group.set", name=AGENT, provider="scripted")
        people = Conversation(host)
        people.talk()
        assert people.finish() == 0
    finally:
        host.close()


@pytest.mark.parametrize("point", in_short(IN_A_RESET, "reset: in the ledger"))
def test_the_host_is_killed_in_a_reset(host: MortalDaemon, point: Point) -> None:
    people = Conversation(host)
    people.talk()
    people.settle()
    old = people.session(people.one)
    people.ask(people.one, "think 1")
    arm(host.folder, point.plan)
    with pytest.raises(HostGone):
        host.call("session.new", session=old)
    host.dies(point)
    host.start()
    people.settle()
    people.verify(cancels=True)
    if people.session(people.one) == old:
        host.call("session.new", session=old)
    people.ask(people.one, "a fresh start")
    assert people.session(people.one) != old
    assert people.finish(cancels=True) == 0


@pytest.mark.parametrize("point", in_short(IN_A_DELETE, "delete: rows gone"))
def test_the_host_is_killed_in_a_delete(host: MortalDaemon, point: Point) -> None:
    people = Conversation(host)
    people.talk()
    people.settle()
    old = people.session(people.one)
    (folder,) = [Path(s["path"]) for s in host.call("session.list") if s["id"] == old]
    people.ask(people.one, "think 1")
    arm(host.folder, point.plan)
    with pytest.raises(HostGone):
        host.call("session.delete", session=old, for_good=True)
    host.dies(point)
    host.start()
    people.settle()
    people.verify(cancels=True)
    if people.session(people.one) == old:
        host.call("session.delete", session=old, for_good=True)
    assert not [left for left in folder.parent.iterdir() if folder.name in left.name]
    people.ask(people.one, "a fresh start")
    assert people.finish(cancels=True) == 0


@pytest.mark.full
@pytest.mark.parametrize("kills", [300])
def test_wherever_the_host_is_killed_nothing_is_lost_or_sent_twice(host: MortalDaemon, kills: int) -> None:
    arm(host.folder, Plan(passing=0))
    live(host, Conversation(host))
    disarm(host.folder)
    host.start()
    lines = passed(host.folder)
    failures = []
    for line in evenly(lines, kills):
        people = killed_at(host, line)
        try:
            host.start()
            people.finish(cancels=True)
        except AssertionError as error:
            failures.append("".join([f"line {line}, {died_at(host.folder)}: ", *format_exception(error)]))
            host.end_agents()
    print(f"{kills} kills in {lines} lines; {len(failures)} with something lost, doubled or left over")
    assert failures == []


def killed_at(host: MortalDaemon, line: int) -> Conversation:
    """Kill the host at that line of its work; somewhat earlier, when there is less to do than in the calm run."""
    people = Conversation(host)
    arm(host.folder, Plan(line))
    live(host, people)
    if not is_armed(host.folder):
        host.dies(line)
        return people
    disarm(host.folder)
    host.start()
    people.finish(cancels=True)
    return killed_at(host, line * 9 // 10)


def live(host: MortalDaemon, people: Conversation) -> None:
    """Everything that happens to a host, from the first word in a chat to SIGTERM; as far as it gets."""
    people.talk()
    people.settle()
    try:
        host.call("session.new", session=people.session(people.one))
        people.ask(people.one, "a fresh start")
        host.call("session.delete", session=people.session(people.two), for_good=True)
        people.ask(people.two, "who is there")
        people.settle()
    except (HostGone, NoHost):
        return
    host.terminate()
