"""`bash`: what comes back, what it may know, and that nothing it has started outlives its end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from container_agent.tools.shell import Excerpt
from tests.agent.session import BareSession
from tests.support.wait import until
from tests.tools.bench import Turn

# A child in the group, one in a session of its own, and one that has also lost its parent.
_FAMILY = (
    "sleep 60 & echo $! >one; setsid sleep 60 & echo $! >two; "
    "(setsid sh -c 'echo $$ >three; exec sleep 60' &) ; echo begun; sleep 60"
)


async def test_output_comes_back_with_a_status_where_it_failed(turn: Turn, session: BareSession) -> None:
    box = await turn.tools(dict(os.environ))
    assert await box.call("bash", {"command": "pwd; echo to the other >&2"}) == (
        f"{session.workspace.resolve()}\nto the other"
    )
    assert await box.call("bash", {"command": "echo no; exit 3"}) == "no\n[exit status 3]"
    assert await box.call("bash", {"command": "kill -9 $$"}) == "[ended by signal 9]"
    assert await box.call("bash", {"command": "cat"}) == "[no output]"


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
        "SOMETHING_NEW": "secret",
        "PIP_PASSWORD": "secret",
    }
    said = await (await turn.tools(environment)).call("bash", {"command": "env"})
    assert "HTTPS_PROXY=http://127.0.0.1:1" in said
    assert "https_proxy=http://127.0.0.1:1" in said
    assert "secret" not in said
    assert "DUMBWAITER_SESSION" not in said


@pytest.mark.parametrize("how", ["timeout", "cancellation"])
async def test_everything_that_was_started_ends_with_the_call(turn: Turn, session: BareSession, how: str) -> None:
    box = await turn.tools(dict(os.environ))
    seconds = 1 if how == "timeout" else 60
    call = asyncio.create_task(box.call("bash", {"command": _FAMILY, "seconds": seconds}))
    files = [session.workspace / name for name in ("one", "two", "three")]
    await until(lambda: all(file.exists() and file.read_text().strip() for file in files), "all have begun")
    processes = [int(file.read_text()) for file in files]
    if how == "cancellation":
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        assert await call == "begun\n[killed after 1 seconds]"
    await until(lambda: not any(_lives(process) for process in processes), "all are gone", 2)


async def test_a_program_in_the_background_does_not_hold_up_the_call(turn: Turn) -> None:
    box = await turn.tools(dict(os.environ))
    async with asyncio.timeout(10):
        said = await box.call("bash", {"command": "sleep 60 & echo $!"})
    os.kill(int(said), 9)


async def test_a_folder_that_is_gone_is_an_error_and_no_crash(turn: Turn, session: BareSession) -> None:
    box = await turn.tools(dict(os.environ))
    session.workspace.rmdir()
    assert (await box.call("bash", {"command": "true"})).startswith("Error: ")


def test_an_excerpt_is_whole_up_to_its_size() -> None:
    excerpt = Excerpt(10)
    for piece in (b"abc", b"defg", b"hij"):
        excerpt.add(piece)
    assert excerpt.text() == "abcdefghij"
    excerpt.add(b"k" * 1_000)
    assert excerpt.text() == "abcde\n[… 1,000 bytes left out …]\nkkkkk"


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
