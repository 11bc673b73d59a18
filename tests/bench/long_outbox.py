"""The host's read of one new answer, from an `outbound.db` with a hundred thousand others and from one with none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

from container_agent.outbox import Outbox
from container_agent.providers.protocol import Reply, Step, TurnResult
from host.sessions import outbox
from host.sessions.folder import Owner, make_session_folder
from shared_schema.clock import SystemClock, to_text
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from shared_schema.rows import MessageIn, encode
from tests.bench.figure import Figure, percentile, times
from tests.bench.population import OUTBOUND, grow, quick
from tests.bench.workbench import Workbench

ROWS = 100_000
ROUNDS = 200
_MS = 1000


def measure(bench: Workbench) -> Iterator[Figure]:
    """An agent ends a turn, the host reads it: in turns on the two files."""
    with ExitStack() as stack:
        empty, long = (stack.enter_context(closing(_Session(bench))) for _ in range(2))
        long.answer()
        long.agent.close()
        with quick(long.layout.outbound) as connection:
            for table in OUTBOUND:
                grow(connection, table, ROWS)
        long.open()
        for session in (empty, long):  # what was there before has been read
            session.catch_up()
        times_of: dict[_Session, list[float]] = {empty: [], long: []}
        for _ in range(ROUNDS):
            for session, taken in times_of.items():
                taken.append(session.answer_and_read())
    yield Figure(
        f"reading one new answer beside {ROWS:,} others, p50",
        percentile(times_of[long], 50) * _MS,
        "ms",
        percentile(times_of[empty], 50) * _MS,
        times(1.2),
    )


class _Session:
    """A session's folder, its agent's end of it, and how far the host has read."""

    def __init__(self, bench: Workbench) -> None:
        self.layout = SessionLayout(bench.new_folder("outbox"))
        make_session_folder(self.layout, Owner.of_agents(10001))
        self.open()
        self._cursor = self._turn_cursor = 0

    def open(self) -> None:
        """Open the agent's end."""
        self.agent = Outbox(self.layout, SystemClock())

    def close(self) -> None:
        """Close it."""
        self.agent.close()

    def answer(self) -> str:
        """The agent answers a message in a turn; the id of the message."""
        message = _message()
        turn = self.agent.begin_turn((message,), generation=1, provider="echo", model="")
        result = TurnResult([Reply("hello", in_reply_to=message.id)], [Step("user", "hi"), Step("assistant", "hello")])
        self.agent.end_turn(turn, result, [new_id(Prefix.MESSAGE)])
        return message.id

    def catch_up(self) -> None:
        """Read all there is."""
        while self._read(()).more:
            pass

    def answer_and_read(self) -> float:
        """Seconds of the host's read of one new answer."""
        message_id = self.answer()
        began = time.perf_counter()
        outbox.heartbeat(self.layout)
        outbox.signature(self.layout)
        snapshot = self._read((message_id,))
        taken = time.perf_counter() - began
        assert (len(snapshot.messages), len(snapshot.acks), len(snapshot.turns)) == (1, 1, 1), "one of each is new"
        return taken

    def _read(self, open_messages: tuple[str, ...]) -> outbox.OutboxSnapshot:
        snapshot = outbox.read(
            self.layout,
            out_cursor=self._cursor,
            turn_cursor=self._turn_cursor,
            open_messages=open_messages,
            running_turns=(),
        )
        self._cursor, self._turn_cursor = snapshot.out_cursor, snapshot.turn_cursor
        return snapshot


def _message() -> MessageIn:
    """A message as the agent finds it."""
    return MessageIn(
        seq=1,
        id=new_id(Prefix.MESSAGE),
        kind="chat",
        timestamp=to_text(SystemClock().now()),
        generation=1,
        trigger=1,
        status="pending",
        tries=0,
        process_after=None,
        channel_type="memory",
        platform_id="one",
        thread_id=None,
        sender_id="ann",
        sender_name=None,
        source_session_id=None,
        content=encode({"text": "hello"}),
    )
