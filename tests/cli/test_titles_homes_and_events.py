"""`session title`, `home` and `events`: what they ask of the host, and what they print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.host import PlayedHost

HOME = {"agent_group": "a", "channel_type": "t", "messaging_group": "t:1", "name": "The \x1b[31moffice"}
TITLE = {"session_id": "ses_1", "title": "The\x07 plan", "title_source": "manual"}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("session title s", "session.title", {"session": "s"}),
    ("session title s Plan", "session.title", {"session": "s", "title": "Plan"}),
    ("session title s Plan --next", "session.title", {"session": "s", "title": "Plan", "following": True}),
    ("session title s --clear", "session.title", {"session": "s", "clear": True}),
    ("home set a t:1", "home.set", {"agent_group": "a", "messaging_group": "t:1"}),
    ("home list", "home.list", {}),
    ("home list a", "home.list", {"agent_group": "a"}),
    ("home remove a t", "home.remove", {"agent_group": "a", "channel_type": "t"}),
    ("events", "events", {}),
    ("events --session s --after 7 --limit 3", "events", {"session": "s", "after": 7, "limit": 3}),
    (
        "messaging-group add t:1 --timezone Asia/Tokyo",
        "messaging_group.add",
        {"address": "t:1", "timezone": "Asia/Tokyo"},
    ),
    ("messaging-group set t:1 --timezone ''", "messaging_group.set", {"address": "t:1", "timezone": ""}),
]


def event(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "at": "2026-11-20T21:39:13.042Z",
        "kind": "session-title",
        "session_id": "ses_1",
        "agent_group_id": "agr_1",
        "data": {"title": f"title\x1b[2J {number}"},
    }


@pytest.fixture
def played(host: PlayedHost) -> PlayedHost:
    host.operations = {
        "session.title": TITLE,
        "home.set": HOME,
        "home.list": [HOME],
        "home.remove": {"removed": "t"},
        "events": [event(1), event(2)],
        "messaging_group.add": {"address": "t:1"},
        "messaging_group.set": {"address": "t:1"},
    }
    return host


@pytest.mark.parametrize(("line", "operation", "params"), CALLS)
def test_a_command_calls_its_operation(
    line: str, operation: str, params: dict[str, Any], played: PlayedHost, run: Run
) -> None:
    words = [word.strip("'") for word in line.split(" ")]
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert played.params_of(operation) == params
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    if not line.startswith("messaging-group"):
        assert json.loads(run(*words, "--json").output) == played.operations[operation]


def test_a_title_and_clear_together_are_wrong_usage(played: PlayedHost, run: Run) -> None:
    assert run("session", "title", "s", "Plan", "--clear").exit_code == 2
    assert played.calls == []


def test_the_title_is_printed_alone(played: PlayedHost, run: Run) -> None:
    assert run("session", "title", "s").output == "The plan\n"
    played.operations["session.title"] = TITLE | {"title": None}
    assert run("session", "title", "s").output == ""


def test_following_goes_on_behind_the_last_event_that_was_shown(played: PlayedHost, run: Run) -> None:
    played.streams["events"] = [event(3)]
    result = run("events", "--follow", "--session", "s", "--json")
    assert [json.loads(line)["number"] for line in result.output.splitlines()] == [1, 2, 3]
    assert played.params_of("events") == {"session": "s", "after": 2}
    lines = run("events", "-f").output.splitlines()
    assert lines[2] == "3  2026-11-20T21:39:13.042Z  session-title  ses_1  title=title 3"


def test_following_without_a_host_shows_what_there_is(run: Run) -> None:
    assert run("agent-group", "add", "helper").exit_code == 0
    result = run("events", "--follow")
    assert result.exit_code == 0
    assert "No host is running, so nothing new will come." in result.output
