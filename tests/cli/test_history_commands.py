"""The commands about what was said: search, transcript, export, import, and making history again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.host import PlayedHost

TIME = "2026-11-20T21:39:13.042Z"
SAID = {"id": "msg_1", "role": "user", "sender": "Zoë", "time": TIME}
HIT: dict[str, Any] = SAID | {
    "session_id": "ses_1", "title": "A \x1b[2Jtalk", "agent_group": "assistant", "messaging_group": "cli:terminal",
    "tool_name": None, "snippet": "the \x1b[31mquick fox", "marks": [[9, 14]], "before": None,
    "after": SAID | {"role": "assistant", "sender": None, "text": "yes\nindeed"},
}  # fmt: skip
ENTRY = {"id": "msg_1", "direction": "in", "time": TIME, "sender": "Zoë *", "text": "two\nlines\x1b[2J", "files": ["f"],
         "kind": "chat", "status": "completed"}  # fmt: skip
STEP = ENTRY | {
    "id": "step-1", "direction": "step", "role": "tool", "tool_name": "read", "tool_calls": None, "reasoning": None,
    "text": "a ``` fence", "files": [], "sender": "tool", "kind": "step", "status": None,
}  # fmt: skip
PROGRESS = {"stage": "reading", "sessions": 1, "of": 2, "entries": 3, "unreadable": 0}
DONE = PROGRESS | {"stage": "done", "sessions": 2, "seconds": 0.25}


def test_search_hands_on_what_is_asked_and_marks_what_was_found(run: Run, host: PlayedHost) -> None:
    host.operations["session.search"] = {"hits": [HIT], "complete": True}

    line = "session search fox --agent-group a --session s --channel t --sender z --role user --since 7d --until 1d"
    result = run(*line.split(), "--limit", "3")

    assert host.params_of("session.search") == {
        "query": "fox", "agent_group": "a", "session": "s", "channel": "t", "sender": "z", "role": "user",
        "since": "7d", "until": "1d", "limit": 3,
    }  # fmt: skip
    assert result.stdout.splitlines() == [
        f"{TIME}  Zoë  ses_1  assistant cli:terminal A talk",
        "  > the [quick] fox",
        "    assistant: yes indeed",
    ]


def test_search_prints_the_hits_as_an_array_and_says_when_it_was_cut_short(run: Run, host: PlayedHost) -> None:
    host.operations["session.search"] = {"hits": [HIT], "complete": False}

    result = run("session", "search", "fox", "--json")

    assert json.loads(result.stdout) == [HIT]
    assert "cut short" in result.stderr


def test_search_says_that_nothing_was_found(run: Run, host: PlayedHost) -> None:
    host.operations["session.search"] = {"hits": [], "complete": True}

    result = run("session", "search", "fox")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing was found.\n")


def test_a_transcript_can_be_markdown_with_steps(run: Run, host: PlayedHost) -> None:
    host.operations["session.transcript"] = [ENTRY, STEP]

    result = run("session", "transcript", "s", "--steps", "--markdown")

    assert host.params_of("session.transcript") == {"session": "s", "steps": True}
    assert result.stdout == (
        f"**Zoë \\*** · {TIME}\n\ntwo\nlines\n\n- file: `f`\n\n**tool read** · {TIME}\n\n````\na ``` fence\n````\n\n"
    )


def test_an_export_goes_line_by_line_to_standard_output_or_a_file(run: Run, host: PlayedHost, tmp_path: Path) -> None:
    lines = [{"type": "session", "id": "ses_1"}, {"type": "entry", "text": "\x9b31m"}]
    host.streams["session.export"] = lines
    file = tmp_path / "export.jsonl"

    assert [json.loads(line) for line in run("session", "export", "s").stdout.splitlines()] == lines
    assert json.loads(run("session", "export", "--all", "--output", str(file), "--json").stdout)["sessions"] == 1
    assert [json.loads(line) for line in file.read_text().splitlines()] == lines
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "line", ["session export", "session export s --all", "session transcript s --json --markdown", "session import /no"]
)
def test_wrong_usage_is_said_at_once(line: str, run: Run, host: PlayedHost) -> None:
    assert run(*line.split()).exit_code == 2
    assert host.calls == []


def test_an_import_names_its_file_in_full(run: Run, host: PlayedHost, tmp_path: Path) -> None:
    host.operations["session.import"] = {"imported": ["ses_1"], "present": []}
    file = tmp_path / "export.jsonl"
    file.touch()

    result = run("session", "import", str(file), "--agent-group", "a")

    assert host.params_of("session.import") == {"path": str(file), "agent_group": "a"}
    assert result.stdout == "imported  ses_1\npresent   -\n"


def test_a_rebuild_shows_how_far_it_is_and_what_it_did(run: Run, host: PlayedHost) -> None:
    host.streams["history.rebuild"] = [PROGRESS, PROGRESS | {"stage": "indexing", "sessions": 2}, DONE]

    assert run("history", "rebuild").stdout == "3 entries of 2 sessions in 0.2 s\n"
    assert json.loads(run("history", "rebuild", "--json").stdout) == DONE


def test_without_a_host_streams_are_made_here(run: Run, tmp_path: Path) -> None:
    assert json.loads(run("history", "rebuild", "--json").stdout)["stage"] == "done"
    assert run("session", "export", "--all").stdout == ""
    assert run("session", "search", "nothing").stderr == "Nothing was found.\n"
