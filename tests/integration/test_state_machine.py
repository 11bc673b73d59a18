"""Messages, dying agents, a dying host and restarts, in any order: nothing is lost or doubled.

Hypothesis chooses the order. The host is the real command in its own process, the agents are real processes, and both
are killed with SIGKILL. At the end every accepted message has exactly one outcome, what was answered was answered once
and in order, and the session files say what central.db says.
"""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.support.daemon import Daemon

CHATS = ("cli:terminal", "cli:second")
TEXTS = st.sampled_from(
    ["hello", "think 0.05", "stream 2 0.02", "reply 2", "fail on purpose", "crash-once", "touch note"]
)
_numbers = itertools.count()


class Messages(RuleBasedStateMachine):
    """Two chats, one agent group, one host."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.host = Daemon(Path(self.folder.name) / "data")
        self.host.start()
        self.host.call("agent_group.set", name="assistant", provider="scripted")
        self.host.call("messaging_group.add", address=CHATS[1], unknown_sender="public")
        self.host.call("wiring.add", messaging_group=CHATS[1], agent_group="assistant")
        self.accepted: dict[str, list[str]] = {chat: [] for chat in CHATS}

    @property
    def runs(self) -> bool:
        return self.host.process is not None

    @precondition(lambda self: self.runs)
    @rule(chat=st.sampled_from(CHATS), text=TEXTS)
    def a_person_writes(self, chat: str, text: str) -> None:
        receipt = self.host.call("message.inject", messaging_group=chat, text=text)
        self.accepted[chat].append(receipt["accepted"][0]["message_id"])

    @precondition(lambda self: self.runs)
    @rule(chat=st.sampled_from(CHATS))
    def the_platform_sends_a_message_twice(self, chat: str) -> None:
        name = f"platform-{next(_numbers)}"
        for _ in range(2):
            receipt = self.host.call("message.inject", messaging_group=chat, text="hello", platform_message_id=name)
        assert receipt["accepted"][0]["duplicate"]
        self.accepted[chat].append(receipt["accepted"][0]["message_id"])

    @rule()
    def the_agents_are_killed(self) -> None:
        self.host.kill_agents()

    @precondition(lambda self: self.runs)
    @rule()
    def the_host_is_killed(self) -> None:
        self.host.kill()

    @precondition(lambda self: self.runs)
    @rule()
    def the_host_is_stopped(self) -> None:
        assert self.host.stop() == 0

    @precondition(lambda self: not self.runs)
    @rule()
    def the_host_is_started(self) -> None:
        self.host.start()

    @precondition(lambda self: self.runs)
    @rule()
    def everything_comes_to_rest(self) -> None:
        self.host.settle()

    def teardown(self) -> None:
        try:
            if not self.runs:
                self.host.start()
            self.host.settle()
            self.check()
        finally:
            self.host.close()
            self.folder.cleanup()

    def check(self) -> None:
        ledger = {row["message_id"]: row for row in self.host.rows("SELECT * FROM ingest")}
        assert sorted(ledger) == sorted(itertools.chain(*self.accepted.values())), "accepted is what is in the ledger"
        assert {row["status"] for row in ledger.values()} <= {"completed", "failed"}
        letters = self.host.rows("SELECT in_reply_to, content FROM terminal_mailbox ORDER BY position")
        deliveries = self.host.rows("SELECT * FROM deliveries")
        assert len(letters) == len(deliveries), "all that was queued arrived once"
        assert {row["status"] for row in deliveries} <= {"delivered"}
        for chat, messages in self.accepted.items():
            mine = [letter["in_reply_to"] for letter in letters if letter["in_reply_to"] in messages]
            once = list(dict.fromkeys(mine))
            assert sorted(once) == sorted(messages), f"everything in {chat} is answered, or its failure shown"
            assert once == [m for m in messages if m in once], f"{chat} is answered in order"
        for row in ledger.values():
            if row["status"] == "failed":
                notices = [d for d in deliveries if d["in_reply_to"] == row["message_id"] and d["from_host"]]
                assert len(notices) == 1, "a failure is shown once"
        self.check_files(ledger)

    def check_files(self, ledger: dict[str, dict[str, object]]) -> None:
        seen = {}
        for folder in self.host.layout.sessions.glob("*/ses_*"):
            with closing(sqlite3.connect(folder / "inbound.db")) as inbound:
                seen |= dict(inbound.execute("SELECT id, status FROM messages_in"))
            with closing(sqlite3.connect(folder / "outbound.db")) as outbound:
                acks = dict(outbound.execute("SELECT message_id, status FROM processing_ack"))
                running = outbound.execute("SELECT count(*) FROM turns WHERE status = 'running'").fetchone()[0]
            assert running == 0 or "processing" in acks.values() or not self.host.agents()
        assert seen == {message_id: row["status"] for message_id, row in ledger.items()}, "files and ledger agree"


class MessagesAtLength(Messages):
    """The same, for `make chaos`."""


def _at_most(examples: int, *, derandomize: bool = True) -> settings:
    return settings(
        max_examples=examples,
        derandomize=derandomize,
        stateful_step_count=12,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would take minutes for each failure
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


TestMessages = Messages.TestCase
TestMessages.settings = _at_most(2)
TestMessagesAtLength = pytest.mark.full(MessagesAtLength.TestCase)
TestMessagesAtLength.settings = _at_most(40, derandomize=False)
