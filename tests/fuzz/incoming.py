"""What a host writes, as an agent reads it: `inbound.db`, the context in it, and the words of `scripted`.

The host is trusted, and may all the same be newer, or odd: an agent that dies over a row dies over it for ever.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from container_agent import providers
from container_agent.__main__ import AgentSettings
from container_agent.context import IncompatibleContract
from container_agent.loop import Loop
from container_agent.outbox import Outbox
from container_agent.wake import Waker
from host.sessions.folder import make_session_folder
from shared_schema.clock import SystemClock
from shared_schema.errors import Conflict, FileTrouble, InvalidValue
from shared_schema.layout import SessionLayout
from shared_schema.rows import ContextKey, MessageInKind
from tests.fuzz.ledger import MESSAGE, OWNER
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, PLAIN_TEXT, SQL_VALUES, TIME, content, fill, nearly_right

_FAR = "9999-12-31T23:59:59.999Z"

MESSAGE_ROWS = nearly_right(
    seq=(None, 1, 2, 3),
    id=(MESSAGE, "msg_00000000000000ab", "msg_00000000000000ac"),
    kind=tuple(MessageInKind),
    timestamp=(TIME,),
    generation=(1, 1, 2),
    trigger=(1, 1, 0),
    status=("pending",),
    tries=(0, 1),
    process_after=(None, None, TIME, _FAR),
    series_id=(None,),
    channel_type=("memory", None),
    platform_id=("one", None),
    thread_id=(None, "thread"),
    sender_id=("ann", None),
    sender_name=("Ann", None),
    source_session_id=(None,),
    content=st.just('{"text":"hello"}')
    | content(text=PLAIN_TEXT, files=st.just([{"name": "a", "path": "inbox/x/a", "size": 1}])),
)
NUMBERS = st.sampled_from(("", "0", "-1", "nan", "inf", "-inf", "1e999", "1_0", "٣", "0x1", "9" * 5000, str(2**70)))
CONTEXT = nearly_right(
    NUMBERS | SQL_VALUES,
    **{
        ContextKey.CONTRACT_VERSION.value: ("1", "2", "3", None),
        ContextKey.GENERATION.value: ("1", "2", None),
        ContextKey.PROVIDER.value: ("echo", "no-such", None),
        ContextKey.MODEL.value: ("model", "", None),
        ContextKey.CONTEXT.value: ("You are it.", None),
        ContextKey.RESUME.value: ("", None),
        ContextKey.RESET_NOTE.value: ("a new day", "", None),
        ContextKey.WITHDRAWN.value: ('["trn_0123456789abcdef"]', "[]", "[1]", "{", None),
        ContextKey.SHARED.value: ("1", "", None),
        ContextKey.MAX_BATCH.value: ("10", "1", None),
        ContextKey.TURN_SECONDS.value: ("1800", "0.5", None),
        "unknown": ("1", None),
    },
)
DESTINATIONS = st.lists(
    nearly_right(
        name=("elsewhere",),
        display_name=("Elsewhere", None),
        type=("messaging_group",),
        channel_type=("memory",),
        platform_id=("two",),
        agent_group_id=(None,),
    ),
    max_size=1,
)

_SMALL = st.sampled_from(("0", "1", "2", "0.01", "-1", "nan", "inf", "x", "", "1e400", "9" * 5000))
_WORDS = (
    "reply", "stream", "think", "tool", "touch", "attach", "to", "steps", "use", "use-step", "use-total", "cost",
    "fill", "session", "refuse-resume", "resumed", "recall", "hear", "note", "errand", "fail", "raise", "bad-row",
)  # fmt: skip
LINES = st.one_of(
    st.tuples(st.sampled_from(_WORDS), st.lists(st.one_of(_SMALL, PLAIN_TEXT), max_size=3)).map(
        lambda command: " ".join((command[0], *command[1]))
    ),
    ANY_TEXT,
)
_MEANT_TO_KILL = frozenset({"crash", "crash-once", "crash-if-first", "exit", "hang", "cling", "kill-mid-commit"})


class OneRound(Waker):
    """Stops the loop where it would begin to wait for messages."""

    loop: Loop

    async def wait(self, seconds: float | None = None) -> None:
        assert seconds is None or seconds <= 3600
        if self.loop.is_in_turn:
            await super().wait(seconds)
        else:
            self.loop.stop()


@contextmanager
def _agent(folder: Path) -> Iterator[tuple[SessionLayout, Any]]:
    """A session, and what runs the agent's loop over it until there is nothing to do."""
    layout = SessionLayout(folder / "agr" / "ses_0123456789abcdef")
    make_session_folder(layout, OWNER)
    log = logging.getLogger("container_agent")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    empty, fresh = layout.inbound.read_bytes(), layout.outbound.read_bytes()
    workspace = folder / "workspace"
    workspace.mkdir()
    with asyncio.Runner() as runner:

        async def live() -> None:
            with (
                closing(Outbox(layout, SystemClock())) as out,
                closing(OneRound(layout.inbound, poll_seconds=1.0, use_events=False)) as waker,
            ):
                waker.loop = Loop(
                    layout,
                    workspace,
                    outbox=out,
                    waker=waker,
                    load=providers.load,
                    clock=SystemClock(),
                    stop_seconds=0.0,
                )
                await waker.loop.run()

        def run(tables: dict[str, list[dict[str, Any]]]) -> None:
            layout.inbound.write_bytes(empty)
            layout.outbound.write_bytes(fresh)
            fill(layout.inbound, tables)
            runner.run(live())

        yield layout, run
    log.setLevel(level)


@contextmanager
def _inbound(folder: Path) -> Iterator[Drive]:
    with _agent(folder) as (_, run):

        def drive(value: tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]) -> None:
            messages, context, destinations = value
            run(
                {
                    "messages_in": messages,
                    "session_context": [{"key": key, "value": value} for key, value in context.items()],
                    "destinations": destinations,
                }
            )

        yield drive


@contextmanager
def _scripted(folder: Path) -> Iterator[Drive]:
    """Every message is answered, or its turn fails: nothing but the words that are meant to kills the agent."""
    with _agent(folder) as (layout, run):

        def drive(lines: list[str]) -> None:
            text = "\n".join(line for line in lines if line.strip() not in _MEANT_TO_KILL)
            row = {"id": MESSAGE, "kind": "chat", "timestamp": TIME, "generation": 1, "trigger": 1}
            context = {"provider": "scripted", "turn_seconds": "0.05"}
            run(
                {
                    "messages_in": [row | {"content": json.dumps({"text": text})}],
                    "session_context": [{"key": key, "value": value} for key, value in context.items()],
                }
            )
            with closing(sqlite3.connect(layout.outbound)) as connection:
                ((status,),) = connection.execute("SELECT status FROM processing_ack").fetchall()
            assert status in ("completed", "failed")

        yield drive


@contextmanager
def _environment(folder: Path) -> Iterator[Drive]:
    def drive(environment: dict[str, str]) -> None:
        settings = AgentSettings.from_environment(environment)
        assert 0 < settings.poll_seconds < 1e6
        assert 0 < settings.heartbeat_seconds < 1e6
        assert 0 <= settings.stop_seconds < 1e6

    yield drive


_VARIABLES = ("SESSION", "WORKSPACE", "NOTIFY", "POLL_SECONDS", "HEARTBEAT_SECONDS", "STOP_SECONDS")

_HEALTHY_ROW = {
    "id": MESSAGE, "kind": "chat", "timestamp": TIME, "generation": 1, "trigger": 1, "content": '{"text":"hello"}'
}  # fmt: skip

INCOMING = (
    Target(
        "inbound-rows",
        _inbound,
        st.tuples(st.lists(MESSAGE_ROWS, min_size=1, max_size=3), CONTEXT, DESTINATIONS),
        (FileTrouble, IncompatibleContract, Conflict),
        known=(
            ([], {"generation": "9" * 400}, []),
            ([], {"generation": str(2**70)}, []),
            ([], {"max_batch": "nan"}, []),
            ([_HEALTHY_ROW | {"id": b"blob"}], {}, []),
            ([_HEALTHY_ROW | {"process_after": "tomorrow"}], {}, []),
            ([_HEALTHY_ROW | {"content": '{"text":"\\ud800"}'}], {}, []),
        ),
    ),
    Target(
        "scripted",
        _scripted,
        st.lists(LINES, min_size=1, max_size=4),
        (),
        known=(
            ["\ud800"],
            ["fail \ud800"],
            [f"use {10**30}"],
            ["to \ud800 x"],
            ["reply 5000000"],
            ["attach a 99999999999"],
            ["reply 499"] * 4,
            ["think 0.01", "use-step 1e400", "cost nan", f"fill {10**30} {10**30}"],
        ),
    ),
    Target(
        "agent-environment",
        _environment,
        st.dictionaries(
            st.sampled_from(_VARIABLES).map(lambda name: f"DUMBWAITER_{name}"), st.one_of(_SMALL, ANY_TEXT)
        ),
        (InvalidValue,),
    ),
)
