"""The folder of an agent that was given up for lost: what it has written so far is there, wherever the host died."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from host.sessions import cut_off
from host.sessions.folder import Owner, make_data_folder, make_session_folder
from shared_schema.layout import OUTBOX, DataLayout, SessionLayout

OWNER = Owner.of_agents(10001)


def session_in(data: Path) -> SessionLayout:
    """A session whose agent has written, and has a file that waits to be sent."""
    layout = DataLayout(data)
    make_data_folder(layout, OWNER)
    session = layout.session("agr_1", "ses_1")
    make_session_folder(session, OWNER)
    (session.outbox / "out-1").mkdir(parents=True)
    (session.outbox / "out-1" / "map.txt").write_text("north")
    return session


def dies_before(line: int, session: SessionLayout) -> bool:
    """Cut a session off in a process that dies before the so-many-th line; whether it did."""
    child = os.fork()
    if child == 0:
        passed = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal passed
            if frame.f_code is not cut_off.cut_off.__code__:
                return None
            if event == "line":
                passed += 1
                if passed == line:
                    os._exit(9)
            return trace

        sys.settrace(trace)
        cut_off.cut_off(session, OWNER, stamp="1")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_what_waits_to_be_sent_is_there_wherever_the_host_dies(tmp_path: Path) -> None:
    line = 1
    while dies_before(line, session := session_in(tmp_path / str(line))):
        database = {path.read_bytes() for path in session.folder.glob("*out*/outbound.db")}
        cut_off.cut_off(session, OWNER, stamp="2")
        assert (session.outbox / "out-1" / "map.txt").read_text() == "north", f"it died before line {line}"
        assert session.outbound.read_bytes() in database
        kept = [path.name for path in session.folder.iterdir() if path.name.startswith(".out-")]
        assert kept, "the agent has another folder than the host reads"
        assert not (session.folder / kept[0] / OUTBOX).exists()
        line += 1
    assert line > 12, "it was killed before every line"
    assert (session.outbox / "out-1" / "map.txt").read_text() == "north"


def test_cutting_off_again_puts_the_next_folder_aside(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    assert cut_off.cut_off(session, OWNER, stamp="1") == ".out-lost-1"
    assert cut_off.cut_off(session, OWNER, stamp="2") == ".out-lost-2"
    assert (session.outbox / "out-1" / "map.txt").read_text() == "north"
    assert sorted(path.name for path in session.folder.iterdir() if path.name.startswith(".out-")) == [
        ".out-lost-1",
        ".out-lost-2",
    ]
