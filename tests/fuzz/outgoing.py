"""What an agent writes: the rows of `outbound.db`, the JSON in them, and the names of files."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.delivery.address import address_of
from host.delivery.check import RowRefused, checked
from host.delivery.copy import Copier
from host.sessions.attachments import AttachmentRefused, FileLimits, take
from host.sessions.outbox import MAX_JUMP
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.ids import Prefix, is_id
from shared_schema.rows import Address, Destination, DestinationType, MessageOut, MessageOutKind, decode
from tests.fuzz import ledger
from tests.fuzz.ledger import DESTINATION, MAX_FILE_BYTES, MAX_TEXT, MESSAGE, TURN
from tests.fuzz.outbound_file import ID, ROW, database, read_all, session_in
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, TIME, content, fill, nearly_right

LIMITS = FileLimits(max_files=3, max_bytes=MAX_FILE_BYTES, max_total_bytes=100_000)
SECRET = b"nobody's business"
_IDS = (ID, "msg_00000000000000ab", "msg_00000000000000ac")

MESSAGE_ROWS = nearly_right(
    seq=(1, 2, 3, None),
    id=_IDS,
    turn_id=(TURN, None),
    in_reply_to=(MESSAGE, None),
    generation=(1,),
    timestamp=(TIME,),
    deliver_after=(None, TIME),
    kind=tuple(MessageOutKind),
    destination=(None, DESTINATION),
    channel_type=(None,),
    platform_id=(None,),
    thread_id=(None,),
    content=(
        '{"text":"hello"}',
        '{"text":"hello","files":["a"]}',
        '{"emoji":"x"}',
        '{"text":"x","expires":"9999-12-31T23:59:59.999Z"}',
        *(f'{{"text":"x","deep":{"[" * depth}{"]" * depth}}}' for depth in (62, 63, 64, 400, 900, 950, 980)),
        '{"text":"x","n":NaN,"m":1e999}',
        '{"text":"x","n":' + "9" * 400 + "}",
        '{"text":"a","text":"b","files":["a"],"files":[]}',
    ),
)
ACK_ROWS = nearly_right(
    message_id=(MESSAGE,),
    status=("processing", "completed", "failed"),
    turn_id=(TURN,),
    error=(None, "it failed"),
    status_changed=(TIME,),
)
TURN_ROWS = nearly_right(
    id=(TURN, "trn_0123456789abcde0"),
    status=("running", "completed", "failed"),
    started_at=(TIME,),
    finished_at=(TIME, None),
    failure_reason=(None, "timeout"),
    provider=("echo",),
    model=(None,),
    provider_session_id=(None, "resume"),
    input_tokens=(1, None),
    output_tokens=(1, None),
    cache_read_tokens=(1, None),
    cache_write_tokens=(1, None),
    cost_usd=(0.5, None),
    generation=(1, None),
    reasoning_tokens=(1, None),
    context_tokens=(1, None),
    context_window=(1, None),
    resume_refused=(0, 1),
)
STATE_ROWS = nearly_right(
    id=(1, 1, 1),
    state=("idle", "working"),
    current_tool=(None, "grep"),
    tool_deadline=(None, TIME),
    turn_id=(None, TURN),
    contract_version=(1,),
    updated_at=(TIME,),
)
ROWS = st.fixed_dictionaries(
    {
        "messages_out": st.lists(MESSAGE_ROWS, max_size=3),
        "processing_ack": st.lists(ACK_ROWS, max_size=2),
        "turns": st.lists(TURN_ROWS, max_size=2),
        "agent_state": st.lists(STATE_ROWS, max_size=1),
    }
)


@contextmanager
def _rows(folder: Path) -> Iterator[Drive]:
    """From the file to the ledger, and what a channel would be handed from there."""
    files = {loose: database(4096, loose=loose, filled=False) for loose in (False, True)}
    with ledger.opened(folder) as there:
        copier = Copier(there.central, file_limits=LIMITS, max_text=MAX_TEXT)

        def drive(value: tuple[bool, dict[str, list[dict[str, Any]]]]) -> None:
            loose, tables = value
            layout = there.folder
            layout.outbound.write_bytes(files[loose])
            fill(layout.outbound, tables)
            snapshot = read_all(layout)
            assert 0 <= snapshot.out_cursor <= MAX_JUMP
            copier.copy(there.session.id, layout, snapshot).result()
            try:
                there.run(there.central.read(_require_deliverable))
            finally:
                there.run(there.put_back())

        yield drive


def _require_deliverable(connection: sqlite3.Connection) -> None:
    """Whatever the ledger took can be handed to a channel, to an agent and to a person."""
    for row in connection.execute("SELECT * FROM deliveries"):
        assert is_id(row["message_out_id"], Prefix.MESSAGE)
        body = decode(row["content"])
        json.dumps(body, ensure_ascii=False).encode()
        assert isinstance(body.get("text", ""), str)
        for name in body.get("files", []) if row["kind"] == MessageOutKind.CHAT else ():
            assert name.startswith("sent/out-")
            assert ".." not in name.split("/")
    for row in connection.execute("SELECT * FROM turns"):
        assert is_id(row["id"], Prefix.TURN)
        assert row["input_tokens"] is None or row["input_tokens"] >= 0
    json.dumps([dict(row) for row in connection.execute("SELECT what, reason FROM refusals")]).encode()


def _message(values: dict[str, Any]) -> MessageOut:
    return MessageOut(**(dict.fromkeys(MessageOut.__slots__) | {"seq": 1} | values))  # type: ignore[arg-type]


@contextmanager
def _content(folder: Path) -> Iterator[Drive]:
    """A message whose content is any JSON, and the address it would go to."""
    destinations = [Destination(DESTINATION, None, DestinationType.MESSAGING_GROUP, "memory", "two", None)]
    replies = {MESSAGE: Address("memory", "one")}

    def drive(value: tuple[str, str, dict[str, Any]]) -> None:
        kind, body, changes = value
        message = checked(_message(ROW | {"kind": kind, "content": body} | changes), max_text=MAX_TEXT)
        assert len(message.text) <= MAX_TEXT
        assert all(name not in (".", "..") and "/" not in name for name in message.files)
        json.dumps(message.content, ensure_ascii=False).encode()
        address_of(message, replies=replies, routing=replies[MESSAGE], destinations=destinations)

    yield drive


@contextmanager
def _names(folder: Path) -> Iterator[Drive]:
    """Files of a message: under any name, of any kind, with links to what the agent must not see."""
    secret = folder / "secret"
    secret.write_bytes(SECRET)
    layout = session_in(folder)
    place = layout.outbox / ID

    def drive(files: list[tuple[str, str]]) -> None:
        place.mkdir(parents=True)
        (place / "door").symlink_to(folder)
        try:
            for name, kind in files:
                _make(place, name, kind, secret)
            names = [name for name, _ in files]
            message = checked(_message(ROW | {"content": json.dumps({"files": names})}), max_text=100_000)
            taken = take(layout, 1, message.id, message.files, LIMITS)
            assert len(taken) == len(names) == len({path.casefold() for path in taken})
            for path in taken:
                kept = layout.folder / path
                assert kept.parent == layout.sent / "out-1"
                assert kept.is_file()
                assert not kept.is_symlink()
                assert kept.read_bytes() == b"data"
        finally:
            shutil.rmtree(layout.outbox)
            shutil.rmtree(layout.sent / "out-1", ignore_errors=True)

    yield drive


def _make(place: Path, name: str, kind: str, secret: Path) -> None:
    """Something of that kind under that name, if the system lets an agent do it."""
    path = place / name
    if "/" in name or os.path.lexists(path):
        return
    try:
        match kind:
            case "file":
                path.write_bytes(b"data")
            case "large":
                path.write_bytes(b"x" * (LIMITS.max_bytes + 1))
            case "link":
                path.symlink_to(secret)
            case "loop":
                path.symlink_to(path)
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
    except (OSError, ValueError):
        return


NAMES = st.one_of(
    ANY_TEXT, st.sampled_from(("a", "A", "con", "é", "e\u0301", "x" * 255, "a" * 130, ".hidden", "a/b", "door/secret"))
)

OUTGOING = (
    Target("outbound-rows", _rows, st.tuples(st.booleans(), ROWS), (FileTrouble,)),
    Target(
        "content",
        _content,
        st.tuples(
            st.sampled_from(MessageOutKind),
            content(
                text=ANY_TEXT | st.just("x" * (MAX_TEXT + 1)), files=st.lists(ANY_TEXT, max_size=3), emoji=ANY_TEXT
            ),
            st.fixed_dictionaries(
                {},
                optional={
                    "destination": st.one_of(st.just(DESTINATION), ANY_TEXT),
                    "in_reply_to": st.one_of(st.none(), ANY_TEXT),
                    "deliver_after": st.one_of(st.just(TIME), ANY_TEXT),
                },
            ),
        ),
        (RowRefused,),
        known=((MessageOutKind.CHAT, "[" * 3_000, {}),),
    ),
    Target(
        "file-names",
        _names,
        st.lists(
            st.tuples(
                NAMES, st.sampled_from(("file", "file", "file", "large", "link", "loop", "folder", "pipe", "missing"))
            ),
            max_size=4,
        ),
        (RowRefused, AttachmentRefused, DumbwaiterError),
        known=([("door/secret", "missing")], [("a", "link")], [("a", "pipe")]),
    ),
)
