"""`bash`: what comes back, what it may know, and that nothing it has started outlives its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from container_agent.tools.shell import Excerpt
from tests.agent.session import BareSession, agent
from tests.support.wait import until
from tests.tools.bench import Turn

# A child in the group, one in a session of its own, one that has also lost its parent, and one that has nothing left.
_BACKGROUND = (
    "sleep 60 & echo $! >one; setsid sleep 60 & echo $! >two; (setsid sh -c 'echo $$ >three; exec sleep 60' &); "
    "(env -i setsid sh -c 'echo $$ >four; exec sleep 60' &); echo begun"
)
_FAMILY = f"{_BACKGROUND}; sleep 60"


async def test_output_comes_back_with_a_status_where_it_failed(turn: Turn, session: BareSession) -> None:
    box = await turn.tools(dict(os.environ))
    assert await box.call("bash", {"command": "pwd; echo to the other >&2"}) == (
        f"{session.workspace.resolve()}\nto the other"
    )
    assert await box.call("bash", {"command": "echo no; exit 3"}) == "no\n[exit status 3]"
    assert await box.call("bash", {"command": "kill -9 $$"}) == "[ended by signal 9]"
    assert await box.call("bash", {"command": "cat"}) == "[no output]"
    assert await box.call("bash", {"command": "yes | head -1; echo ${PIPESTATUS[0]}; ls /proc/self/fd"}) == (
        "y\n141\n0\n1\n2\n3"  # the end of a pipe is a signal; 3 is the folder itself
    )


async def test_long_output_keeps_its_beginning_and_its_end(turn: Turn) -> None:
    said = await (await turn.tools(dict(os.environ))).call("bash", {"command": "seq 1 200000"})
    assert said.startswith("1\n2\n3\n")
    assert said.endswith("199999\n200000")
    assert "bytes left out" in said
    assert len(said) <= 30_000


async def test_a_program_gets_the_proxies_and_no_secrets(turn: Turn) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "https_proxy": "http://127.0.0.1:1",
        "OPENAI_API_KEY": "secret",
        "DUMBWAITER_SESSION": "/session",
        "DUMBWAITER_RUN": "run_1",
        "SOMETHING_NEW": "secret",
        "PIP_PASSWORD": "secret",
    }
    said = await (await turn.tools(environment)).call("bash", {"command": "env"})
    assert "HTTPS_PROXY=http://127.0.0.1:1" in said
    assert "https_proxy=http://127.0.0.1:1" in said
    assert "secret" not in said
    assert "DUMBWAITER_SESSION" not in said
    assert "DUMBWAITER_RUN=run_1" in said  # the host ends by it what has left the agent


@pytest.mark.parametrize("how", ["timeout", "cancellation"])
async def test_everything_that_was_started_ends_with_the_call(turn: Turn, session: BareSession, how: str) -> None:
    box = await turn.tools(dict(os.environ))
    seconds = 1 if how == "timeout" else 60
    call = asyncio.create_task(box.call("bash", {"command": _FAMILY, "seconds": seconds}))
    processes = await started(session)
    if how == "cancellation":
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        assert await call == "begun\n[killed after 1 seconds]"
    await until(lambda: not any(_lives(process) for process in processes), "all are gone")


async def test_what_runs_in_the_background_goes_on_until_the_turn_ends(session: BareSession) -> None:
    turn = Turn(session)
    async with turn.at_end:
        box = await turn.tools(dict(os.environ))
        async with asyncio.timeout(60):
            assert await box.call("bash", {"command": _BACKGROUND}) == "begun"
        processes = await started(session)
        assert await box.call("bash", {"command": f"kill -0 {processes[0]} && echo alive"}) == "alive"
        assert await box.call("bash", {"command": "sleep 60", "seconds": 1}) == "[killed after 1 seconds]"
        assert all(_lives(process) for process in processes)
    await until(lambda: not any(_lives(process) for process in processes), "all are gone")


async def test_a_program_in_the_background_may_go_on_talking(turn: Turn, session: BareSession) -> None:
    box = await turn.tools(dict(os.environ))
    await box.call("bash", {"command": "(until [ -e go ]; do sleep 0.05; done; echo more; touch said) &"})
    (session.workspace / "go").touch()
    await until((session.workspace / "said").exists, "it has talked")


async def test_a_command_does_not_outlive_its_agent_whatever_kills_that(session: BareSession) -> None:
    session.context(provider="scripted")
    with agent(session) as running:
        session.say(f"call bash {json.dumps({'command': _FAMILY})}")
        processes = await started(session)
        running.kill()
        await until(lambda: not any(_lives(process) for process in processes), "all are gone")


async def test_a_command_that_kills_what_keeps_it_is_over(turn: Turn) -> None:
    box = await turn.tools(dict(os.environ))
    said = await box.call("bash", {"command": "setsid sleep 60 & echo $!; kill -9 $PPID; sleep 60"})
    process, _, told = said.partition("\n")
    assert told == "[broke off: the process that keeps the command was killed]"
    await until(lambda: not _lives(int(process)), "it is gone")


async def test_a_command_that_stops_what_keeps_it_ends_with_the_call(turn: Turn, session: BareSession) -> None:
    box = await turn.tools(dict(os.environ))
    said = await box.call("bash", {"command": "echo $$ $PPID >both; kill -STOP $PPID; exec sleep 60", "seconds": 1})
    assert said == "[killed after 1 seconds]"
    processes = [*map(int, (session.workspace / "both").read_text().split())]
    await until(lambda: not any(_lives(process) for process in processes), "both are gone")


async def test_cancelled_calls_leave_no_descriptors(turn: Turn) -> None:
    box = await turn.tools(dict(os.environ))
    before = _descriptors()
    for steps in range(20):
        call = asyncio.create_task(box.call("bash", {"command": "sleep 60"}))
        for _ in range(steps % 5):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await turn.at_end.aclose()
    assert _descriptors() == before


async def test_a_command_gets_no_more_than_the_turn_has_left(session: BareSession) -> None:
    turn = Turn(session, seconds=3)
    async with turn.at_end:
        box = await turn.tools(dict(os.environ))
        said = await box.call("bash", {"command": "echo begun; sleep 60", "seconds": 1800})
        assert re.fullmatch(r"begun\n\[killed after [12] seconds: the turn has no more time\]", said)
        assert await box.call("bash", {"command": "echo no"}) == (
            "Error: this turn has no time left for that: answer with what you have"
        )


async def test_a_folder_that_is_gone_is_an_error_and_no_crash(turn: Turn, session: BareSession) -> None:
    box = await turn.tools(dict(os.environ))
    session.workspace.rmdir()
    before = _descriptors()
    assert (await box.call("bash", {"command": "true"})).startswith("Error: the command cannot be started: no such")
    assert _descriptors() == before


def test_an_excerpt_is_whole_up_to_its_size() -> None:
    excerpt = Excerpt(10)
    for piece in (b"abc", b"defg", b"hij"):
        excerpt.add(piece)
    assert excerpt.text() == "abcdefghij"
    excerpt.add(b"k" * 1_000)
    assert excerpt.text() == "abcde\n[… 1,000 bytes left out …]\nkkkkk"


async def started(session: BareSession) -> list[int]:
    """The processes of the family, once all have begun."""
    files = [session.workspace / name for name in ("one", "two", "three", "four")]
    await until(lambda: all(file.exists() and file.read_text().strip() for file in files), "all have begun")
    return [int(file.read_text()) for file in files]


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
