"""Events from outside start runs: files and messages, debounced, bounded, in the same log."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from host.schedules.folder_watch import files, valid_folder
from host.schedules.template import filled, require
from shared_schema.errors import Conflict, InvalidValue, NotFound
from tests.agent.session import ROOT
from tests.schedules.test_runs import ended, log
from tests.support.host import AGENT, Host, running


async def on(host: Host, source: str, place: str, prompt: str, **rules: Any) -> dict[str, Any]:
    values = {"agent_group": AGENT, "debounce": "1s", "name": source} | rules
    made: dict[str, Any] = await host.do("schedule.on", source=source, place=place, prompt=prompt, **values)
    return made


async def test_files_that_appear_start_one_run_with_all_of_them_and_those_that_were_there_none(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        inbox = host.services.settings.layout.workspace(AGENT) / "inbox"
        inbox.mkdir(parents=True)
        (inbox / "old.pdf").write_text("old")
        made = await on(host, "file", "inbox", "{count} new: {text}", pattern="*.pdf")
        assert made["when"] == "when a file that fits '*.pdf' appears in inbox"
        assert (made["status"], made["next"]) == ("active", None)
        for name in ("a.pdf", "b.pdf", "c.txt", ".d.pdf", "e.pdf.part"):
            (inbox / name).write_text("new")
        (run,) = await ended(host, "file")
        assert run["state"] == "ok"
        said = "\n".join(host.texts())
        assert "2 new: inbox/" in said
        assert {"inbox/a.pdf", "inbox/b.pdf"} == {word for word in said.split() if word.startswith("inbox/")}


async def test_a_message_that_fits_starts_a_run_once_however_often_it_comes(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await host.do("messaging_group.add", address="memory:mail", is_group=False, unknown_sender="strict")
        await on(host, "message", "memory:mail", "Is this urgent?", pattern="(?i)invoice")
        for _ in range(2):
            await host.say("Your INVOICE of May", chat="mail", message_id="m1")
        await host.say("lunch?", chat="mail")
        await host.say("an invoice elsewhere", chat="one")
        (run,) = await ended(host, "message")
        assert run["state"] == "ok"
        assert "scripted: Your INVOICE of May" in host.texts()
        assert "scripted: From ann in memory:mail:" in host.texts()
        assert len([row for row in await log(host, "message") if row["session_id"]]) == 1
        assert len(await host.central("SELECT * FROM trigger_events")) == 1


@pytest.mark.full
async def test_what_an_mcp_server_notifies_of_starts_one_run_for_all_that_comes_together(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.tools.server_example"]
    tracker = {"command": command, "env": {"PYTHONPATH": str(ROOT)}}
    async with running(tmp_path / "data", poll_seconds=0.2) as host:
        await host.do("agent_group.set", name=AGENT, tool_servers=json.dumps({"tracker": tracker, "other": tracker}))
        made = await on(host, "mcp", "tracker", "{count} changes: {text}", pattern="resources/updated")
        assert made["when"] == "when a notification that fits 'resources/updated' comes from the MCP server tracker"
        await host.say("call tracker__notify {}\ncall other__notify {}")
        (run,) = await ended(host, "mcp")
        assert run["state"] == "ok"
        said = "\n".join(host.texts())
        line = 'From tracker: notifications/resources/updated {"uri": "tea://kettle"}'
        assert f"2 changes: {line}" in said
        assert "From other" not in said
        assert len(await host.central("SELECT 1 FROM trigger_events")) == 2


async def test_events_without_end_meet_a_limit_wait_and_are_told_of(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await on(host, "message", "memory", "look", per_hour=1)
        await host.say("first")
        await ended(host, "message")
        for number in range(130):
            await host.say(f"more {number}")
        rows = await ended(host, "message", 2)
        assert (rows[-1]["state"], rows[-1]["note"][:32]) == ("skipped", "it has run 1 times in an hour, w")
        states = await host.central("SELECT state, count(*) AS n FROM trigger_events GROUP BY state ORDER BY state")
        assert {row["state"]: row["n"] for row in states} == {"taken": 1, "waiting": 100, "dropped": 30}
        said = await host.central("SELECT content FROM host_messages")
        assert len(said) == 1


async def test_what_cannot_be_is_refused_when_it_is_given(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        for wrong, error, said in (
            ({"source": "file", "place": "../other"}, InvalidValue, "not a folder of the workspace"),
            ({"source": "file", "place": "/etc"}, InvalidValue, "not a folder of the workspace"),
            ({"source": "mcp", "place": "tracker"}, InvalidValue, "has no MCP server 'tracker', it has none"),
            ({"source": "message", "place": "mail"}, InvalidValue, "no channel 'mail'"),
            ({"source": "message", "place": "memory:none"}, NotFound, "no messaging group"),
            ({"source": "message", "place": "memory", "pattern": "("}, InvalidValue, "cannot be used"),
            ({"source": "file", "place": "inbox", "prompt": "{file}"}, InvalidValue, "no field '{file}'"),
            ({"source": "file", "place": "inbox", "debounce": "soon"}, InvalidValue, "not a duration"),
        ):
            with pytest.raises(error, match=said):
                await on(host, **{"prompt": "look", **wrong})
        await on(host, "file", "inbox", "look")
        with pytest.raises(Conflict, match="runs when a file appears in inbox"):
            await host.do("schedule.set", name="file", when="every 1h")
        await host.do("schedule.pause", name="file")
        assert (await host.do("schedule.resume", name="file"))["status"] == "active"


def test_a_folder_is_looked_into_without_following_a_link(tmp_path: Path) -> None:
    outside, space = tmp_path / "outside", tmp_path / "space"
    for folder in (outside, space / "inbox"):
        folder.mkdir(parents=True)
    (outside / "secret").write_text("a key")
    (space / "inbox" / "real").write_text("x")
    (space / "inbox" / "link").symlink_to(outside / "secret")
    os.mkfifo(space / "inbox" / "pipe")
    assert list(files(space, "inbox", None).values()) == ["inbox/real"]
    (space / "away").symlink_to(outside)
    assert files(space, "away", None) == {}
    assert files(space, "none", None) == {}
    assert valid_folder("/workspace/mail/new") == "mail/new"


def test_a_template_says_where_the_events_stand() -> None:
    assert filled("{count}: {text}!", ["a", "b"]) == "2: a\n\nb!"
    assert filled("look", ["{text}"]) == "look\n\n{text}"
    assert filled("{text}", ["{count}"]) == "{count}"
    require("Sort {text}, all {count}")
    with pytest.raises(InvalidValue, match="no field"):
        require("{name}")
