"""The hostile agent (`tests/hostile/table.py` lists its tricks) against a host, beside a neighbour that keeps talking.

FAILURES 4, 46: whatever one session's agent leaves in `out/`, its people are told, and nobody else notices.
The host is a process of its own, so that its memory can be measured. The quick tricks are done several at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.hostile.attack import HEALTHY, MEMORY_MB, TRIPS
from tests.hostile.neighbour import Trips
from tests.hostile.table import ELSEWHERE, SHORT, TRICKS, Expected
from tests.support.chats import add_chats, ask_in, folder_of
from tests.support.host import rows, running
from tests.support.script import script
from tests.support.short import in_short
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]
STALL_MS = 5_000.0
DESCRIPTORS = 10
HERE = [trick for trick in TRICKS if not TRICKS[trick].container]
QUICK_SECONDS, FULL_SECONDS = 600.0, 1800.0

Result = dict[str, Any]


def attack(folder: Path, tricks: Sequence[str], *options: str, limit: float = QUICK_SECONDS) -> dict[str, Result]:
    """What a host did about these tricks, by name. Everything is ended after `limit` seconds."""
    command = [sys.executable, "-m", "tests.hostile.attack", *tricks, *options, "--json", str(folder / "results.json")]
    with (folder / "host.log").open("wb") as log:
        host = psutil.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            assert host.wait(limit) == 0, (folder / "host.log").read_text()[-3000:]
        finally:
            for process in [*host.children(recursive=True), host] if host.is_running() else []:
                process.kill()
            host.wait()
    return {result["trick"]: result for result in json.loads((folder / "results.json").read_text())}


@pytest.fixture(scope="module")
def quick(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """The results of all quick tricks that were asked for, done to one host."""
    wanted = {item.name for item in request.session.items}
    tricks = [trick for trick in HERE if f"test_a_trick_harms_its_own_session_alone[{trick}]" in wanted]
    return attack(tmp_path_factory.mktemp("hostile"), tricks)


@pytest.mark.alone
@pytest.mark.parametrize("trick", in_short(HERE, *SHORT))
def test_a_trick_harms_its_own_session_alone(quick: dict[str, Result], trick: str) -> None:
    require(TRICKS[trick].expected, quick[trick], TRICKS[trick].otherwise)


@pytest.mark.full
@pytest.mark.parametrize("trick", HERE)
def test_a_trick_as_large_as_it_comes_harms_its_own_session_alone(tmp_path: Path, trick: str) -> None:
    result = attack(tmp_path, [trick], "--full", limit=FULL_SECONDS)[trick]
    require(TRICKS[trick].expected, result, TRICKS[trick].otherwise)


LOCKS = """
def answer(message, text):
    reply(message, "ok: " + text)
    if text == "lock":
        held = sqlite3.connect("file:" + SESSION + "/inbound.db?mode=ro", uri=True, isolation_level=None)
        held.execute("BEGIN")
        held.execute("SELECT count(*) FROM messages_in").fetchone()
        open(OUT + "/locked", "w").close()
        hold()
"""


async def test_an_agent_that_locks_its_file_does_not_keep_the_others_from_being_told(tmp_path: Path) -> None:
    async with running(tmp_path, command=script(tmp_path, LOCKS)) as host:
        await add_chats(host, "two", "three")
        for chat in ("two", "one", "three"):
            await ask_in(host, chat, "hello")
        await ask_in(host, "one", "lock")
        await until((await folder_of(host, "one")).out.joinpath("locked").exists, "the file is locked")
        await host.do("destination.add", agent_group="assistant", name="home", messaging_group="memory:two")
        for chat in ("two", "three"):
            await ask_in(host, chat, "again")  # whoever could not be told at once is told with the next message
            told = rows((await folder_of(host, chat)).inbound, "SELECT name FROM destinations")
            assert told == [{"name": "home"}]


@pytest.mark.parametrize("trick", ELSEWHERE)
def test_what_the_table_says_is_tried_elsewhere_is(trick: str) -> None:
    file, test = ELSEWHERE[trick]
    assert f"def {test}(" in (ROOT / file).read_text()


def require(expected: Expected, result: Result, otherwise: Sequence[Expected] = ()) -> None:
    """Everything a host owes to the person who asked, and to all others."""
    told = (each for each in (expected, *otherwise) if any(text.startswith(each.told) for text in result["told"]))
    expected = next(told, expected)
    assert result["outcome"] == expected.outcome
    assert any(text.startswith(expected.told) for text in result["told"]), result["told"]
    for part in expected.refused:
        assert any(part in refusal for refusal in result["refusals"]), result["refusals"]
    assert result["put_aside"] == expected.put_aside
    assert expected.lives in (None, result["lives"])
    assert result["left"] == 0, "processes of the agent that was stopped"
    assert not result["leaked"]
    assert result["precious"]
    require_goes_on(result, spoils=expected.spoils)
    require_others_unharmed(result)


def require_goes_on(result: Result, *, spoils: bool) -> None:
    """The session answers again, with a healthy agent; where that cannot be, it says so, until it is begun anew."""
    after = result["after"] or "nothing"
    if spoils and not after.startswith(HEALTHY):
        assert after.startswith("This message could not be answered: "), after
        assert result["anew"] == f"{HEALTHY}anew"
    else:
        assert after.startswith(HEALTHY), after


def require_others_unharmed(result: Result) -> None:
    """The neighbour's round trips, and what the host holds."""
    during = result["during"]
    assert during["count"] >= min(TRIPS.values())
    assert not Trips(**during).slow, (result["before"], during)
    assert during["worst"] <= STALL_MS
    assert result["memory"] <= MEMORY_MB
    assert result["descriptors"] <= DESCRIPTORS
