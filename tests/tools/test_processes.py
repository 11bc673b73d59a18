"""Background processes: started, read, listed and stopped by tools; bounded, and gone with the agent."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from container_agent.tools.background import KEPT_BYTES, BackgroundProcesses, OutputTail
from container_agent.tools.tool import ToolRefused
from container_agent.tools.toolbox import Toolbox
from shared_schema import asking, background
from shared_schema.background import MOST_KEPT, MOST_RUNNING, BackgroundProcess
from shared_schema.errors import FileBusy
from tests.agent.session import BareSession
from tests.support.wait import until
from tests.tools.bench import Turn


async def tools(turn: Turn) -> Toolbox:
    return await turn.tools(dict(os.environ))


def known(turn: Turn) -> dict[str, BackgroundProcess]:
    """What the session's file was told last."""
    return {each.name: each for each in background.parsed(turn.noted[-1])}


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def number_in(path: Path) -> int:
    found = await until(lambda: path.exists() and path.read_text().strip(), f"{path.name} is written")
    return int(str(found))


async def test_a_process_goes_on_after_the_turn_and_what_it_says_is_read_piece_by_piece(
    turn: Turn, session: BareSession
) -> None:
    box = await tools(turn)
    command = "expr 6 '*' 7; while [ ! -e go ]; do sleep 0.05; done; expr 7 '*' 7; sleep 600"
    said = await box.call("start_process", {"command": command, "name": "server"})
    assert "server: has run for" in said
    if "\n42" not in said:  # a busy machine
        await until(lambda: _new(turn, "\n42"), "it begins")
    assert known(turn)["server"].is_running
    await turn.at_end.aclose()  # the turn is over
    (session.workspace / "go").touch()
    following = await until(lambda: _new(turn, "\n49"), "it goes on")
    assert "\n42" not in following
    everything = await box.call("read_process", {"name": "server", "everything": True})
    assert everything.endswith("\n42\n49")
    assert (await box.call("list_processes", {})).startswith("server: has run for")
    assert "server: stopped" in await box.call("stop_process", {"name": "server"})
    assert not known(turn)["server"].is_running


def _new(turn: Turn, part: str) -> str | None:
    said = turn.processes.read("server", everything=False, most=1_000)
    return said if part in said else None


async def test_an_end_is_noted_with_how_and_the_last_words(turn: Turn) -> None:
    box = await tools(turn)
    await box.call("start_process", {"command": "seq 1 3000; exit 3"})
    await until(lambda: known(turn)["p1"].ended, "it is over")
    found = known(turn)["p1"]
    assert (found.ended, found.wakes) == ("ended with exit status 3", True)
    assert found.output.endswith("2999\n3000")
    assert len(found.output) <= background.LONGEST_OUTPUT


async def test_what_a_command_leaves_behind_ends_with_it(turn: Turn, session: BareSession) -> None:
    box = await tools(turn)
    await box.call("start_process", {"command": "(setsid sleep 600 & echo $! >child); sleep 0.2"})
    child = await number_in(session.workspace / "child")
    await until(lambda: known(turn)["p1"].ended, "it is over")
    await until(lambda: not lives(child), "its child is gone")


async def test_an_agent_that_goes_takes_its_processes_along_and_leaves_them_noted(
    turn: Turn, session: BareSession
) -> None:
    box = await tools(turn)
    await box.call("start_process", {"command": "(setsid sleep 600 & echo $! >child); sleep 600", "wake": False})
    child = await number_in(session.workspace / "child")
    await turn.processes.close()
    await until(lambda: not lives(child), "its child is gone")
    assert known(turn)["p1"].is_running  # the host says so to the next agent
    assert not known(turn)["p1"].wakes


async def test_their_number_is_bounded_and_so_is_what_is_known_of_those_that_are_over(turn: Turn) -> None:
    for number in range(MOST_RUNNING):
        await turn.processes.start("sleep 600", turn.request.workspace, os.environ, name=f"n{number}", wakes=True)
        if number == 1:
            with pytest.raises(ToolRefused, match="a process 'n1' runs already"):
                await turn.processes.start("true", turn.request.workspace, os.environ, name="n1", wakes=True)
    with pytest.raises(ToolRefused, match="8 processes run already"):
        await turn.processes.start("true", turn.request.workspace, os.environ, name=None, wakes=True)
    await asyncio.gather(*(turn.processes.stop(f"n{number}") for number in range(MOST_RUNNING)))
    for number in range(MOST_KEPT):
        await turn.processes.start("true", turn.request.workspace, os.environ, name=f"m{number}", wakes=True)
        await turn.processes.wait_for(f"m{number}", 20)
    assert len(known(turn)) == MOST_KEPT
    assert "n0" not in known(turn)


async def test_output_is_bounded_and_says_what_is_missing(turn: Turn) -> None:
    box = await tools(turn)
    await box.call("start_process", {"command": "yes walrus | head -c 3000000; echo end"})
    await until(lambda: known(turn)["p1"].ended, "it is over")
    said = await box.call("read_process", {"name": "p1", "everything": True})
    assert said.endswith("end")
    assert "bytes before this are left out" in said
    assert len(said) <= 30_000


def test_the_end_of_a_stream_is_kept_in_bounded_memory() -> None:
    tail = OutputTail()
    for number in range(1_000):
        tail.add(b"%09d\n" % number * 100)
    assert len(tail.data) <= 2 * KEPT_BYTES + 1_000
    kept, lost = tail.since(0)
    assert (len(kept), lost) == (KEPT_BYTES, 1_000_000 - KEPT_BYTES)
    assert tail.since(999_990) == (b"000000999\n", 0)


async def test_what_cannot_be_is_refused_by_name(turn: Turn) -> None:
    box = await tools(turn)
    assert "there is no process 'tea'" in await box.call("read_process", {"name": "tea"})
    assert "there is no process 'tea'" in await box.call("stop_process", {"name": "tea"})
    assert "cannot be a name" in await box.call("start_process", {"command": "true", "name": "A b"})
    await box.call("start_process", {"command": "exit 1", "name": "tea"})
    await until(lambda: known(turn)["tea"].ended, "it is over")
    assert "has ended already" in await box.call("stop_process", {"name": "tea"})
    assert (await box.call("list_processes", {})).startswith("tea: ended with exit status 1")


async def test_a_process_that_the_file_cannot_hold_is_not_started(session: BareSession, tmp_path: Path) -> None:
    def refuse(value: str) -> None:
        raise FileBusy("it is locked")

    processes = BackgroundProcesses(refuse)
    with pytest.raises(ToolRefused, match="try again"):
        await processes.start("echo $$ >number; sleep 600", tmp_path, os.environ, name=None, wakes=True)
    assert processes.listed() == []
    await processes.close()


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "{",
        "[[[]]]",
        "[" * 10_000,
        '[{"key": "x", "name": "p1"}]',
        '[{"key": 7}]',
        "x" * 200_001,
        "[1, null]",
    ],
)
def test_what_is_no_list_of_processes_is_none(value: object) -> None:
    assert background.parsed(value) == ()


def test_what_is_stored_is_read_and_foreign_text_is_cut() -> None:
    first = BackgroundProcess("0" * 16, "p1", "make", True, "ended with exit status 0", "done")
    assert background.parsed(background.stored([first])) == (first,)
    wild = BackgroundProcess("1" * 16, "p2", "x\n" * 500, True, "\x1b[2J" * 100, "\0y" * 5_000)
    (found,) = background.parsed(background.stored([wild]))
    assert "\n" not in found.command
    assert "\x1b" not in found.ended
    assert len(found.output) == background.LONGEST_OUTPUT
    assert "\0" not in found.output


def test_a_full_list_of_the_worst_can_be_read_again() -> None:
    worst = [
        BackgroundProcess(f"{number:016x}", f"p{number}", '"' * 200, True, "ended", "\x1b" * background.LONGEST_OUTPUT)
        for number in range(MOST_KEPT)
    ]
    assert background.parsed(background.stored(worst)) == tuple(worst)


def test_a_rule_for_commands_holds_for_those_in_the_background() -> None:
    assert asking.waits(["bash:git push *"], "start_process", {"command": "git push origin"})
    assert not asking.waits(["bash:git push *"], "start_process", {"command": "git pull"})
    assert asking.waits(["start_process"], "start_process", {"command": "true"})
    assert not asking.waits(["start_process"], "bash", {"command": "true"})
