"""One writer for each session file: every open of host and agents is written down, through kills and a recovery.

A reader that may write, on a mount without locks, rolls a living transaction back (3,000 rows were lost so). So the
host opens nothing in `out/` for writing, in no path of the code, and an agent nothing of the host's.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from shared_schema.database import open_reader, open_writer
from tests.support.host import running

TRACED = """
import json, os, runpy, sys
log = os.open({log!r}, os.O_WRONLY | os.O_APPEND)
def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        record = [str(path), bool(flags & (os.O_WRONLY | os.O_RDWR))]
    elif event == "sqlite3.connect":
        record = [str(arguments[0]), "mode=ro" not in str(arguments[0])]
    else:
        return
    os.write(log, (json.dumps(record) + chr(10)).encode())
sys.addaudithook(hook)
runpy.run_module("container_agent", run_name="__main__")
"""

_seen: list[tuple[str, bool]] = []
_is_listening = [False]


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _is_listening[0]:
        return
    if event == "open":
        path, _, flags = arguments
        _seen.append((str(path), bool(flags & (os.O_WRONLY | os.O_RDWR))))
    elif event == "sqlite3.connect":
        _seen.append((str(arguments[0]), "mode=ro" not in str(arguments[0])))


@pytest.fixture
def opened_by_host() -> Any:
    """What this process opens during the test: path or URI, and whether for writing. (A hook cannot be removed.)"""
    if not getattr(_hook, "is_added", False):
        sys.addaudithook(_hook)
        _hook.is_added = True  # type: ignore[attr-defined]
    _seen.clear()
    _is_listening[0] = True
    yield _seen
    _is_listening[0] = False


def writes(opened: list[tuple[str, bool]], name: str) -> list[str]:
    """The paths ending with a name that were opened for writing; the host's own drafts have names of their own."""
    return [path for path, to_write in opened if to_write and path.partition("?")[0].rpartition("/")[2] == name]


async def test_nobody_but_its_writer_opens_a_session_file_for_writing(
    tmp_path: Path, opened_by_host: list[tuple[str, bool]]
) -> None:
    log = tmp_path / "opened-by-agents"
    log.touch(mode=0o666)
    log.chmod(0o666)
    tmp_path.chmod(0o755)
    command = [sys.executable, "-c", TRACED.format(log=str(log))]
    data = tmp_path / "data"
    async with running(data, command=command, max_retries=0) as host:
        assert await host.ask("hello") == "scripted: hello"
        assert "could not be answered" in await host.ask("kill-mid-commit")  # leaves a hot journal: a recovery follows
        assert await host.ask("again") == "scripted: again"
        await host.ask("crash")
        (session,) = await host.do("session.list")
        assert await host.do("session.transcript", session=session["id"])
        await host.settled()
    async with running(data, command=command) as host:
        assert await host.ask("after a restart") == "scripted: after a restart"
        await host.settled()
    by_agents = [(path, to_write) for path, to_write in map(json.loads, log.read_text().splitlines())]

    assert writes(opened_by_host, "inbound.db"), "the host's own writes were not seen"
    assert writes(opened_by_host, "recover.db"), "no recovery took place"
    assert writes(opened_by_host, "outbound.db") == []
    assert [path for path, to_write in opened_by_host if to_write and "/out/" in path] == []
    assert writes(by_agents, "outbound.db"), "the agents' own writes were not seen"
    assert writes(by_agents, "inbound.db") == []


def test_the_trace_sees_a_reader_that_could_write(tmp_path: Path, opened_by_host: list[tuple[str, bool]]) -> None:
    """The check of the check."""
    path = tmp_path / "outbound.db"
    with closing(open_writer(path, create=True)) as connection:
        connection.execute("CREATE TABLE t (x)")
    opened_by_host.clear()
    with closing(open_reader(path)) as connection:
        connection.execute("SELECT * FROM t").fetchall()
    assert writes(opened_by_host, "outbound.db") == []
    with closing(open_writer(path)):
        pass
    assert writes(opened_by_host, "outbound.db")
