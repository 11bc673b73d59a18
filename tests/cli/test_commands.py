from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from host.central.messaging_groups import Engage, SessionMode
from host.cli.invocation import Invocation
from host.cli.root import root
from host.cli.wiring import wire
from tests.cli.conftest import Run
from tests.cli.host import PlayedHost
from tests.support.daemon import COMMAND

SESSION = {
    "id": "ses_0123456789abcdef", "agent_group": "assistant", "messaging_group": "cli:terminal", "thread_id": None,
    "kind": "chat", "status": "active", "end_reason": None, "title": "A \x1b[31mtitle", "path": "/data/s",
    "last_active": "2026-11-20T21:39:13.042Z", "created_at": "2026-11-20T21:39:13.042Z", "pending": 0, "agent": "none",
    "title_source": None, "preview": "a\x1b[31m", "unread": True, "unread_since": "2026-11-20T21:39:13.042Z",
    "short_id": "01234", "parent_id": None, "parent_relation": None, "ended_at": None, "turns": [],
    "run_id": None, "generation": 1, "refusals": [{"what": "row 3", "reason": "too long", "created_at": "now"}],
}  # fmt: skip

TERMINAL = str(os.getsid(0))

UNCHANGED = {
    "sender_scope": "all",
    "non_engaging": "drop",
    "priority": 0,
    "agent_replies": "ignore",
    "progress": "typing",
}
NO_RESET = {"reset": "none", "reset_minutes": 1440, "reset_hour": 4, "archived": "refuse", **UNCHANGED}

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "token add app --agent-group a --rights read --budget-usd 2 --budget-tokens 9 --budget-period day --expires 2w",
        "token.add",
        {
            "name": "app",
            "agent_group": "a",
            "rights": "read",
            "budget_usd": 2.0,
            "budget_tokens": 9,
            "budget_period": "day",
            "expires_days": 14.0,
        },
    ),
    ("token list", "token.list", {}),
    (
        "hook add h https://a.example/x --event turn-ended --agent-group a",
        "hook.add",
        {"name": "h", "url": "https://a.example/x", "kinds": ["turn-ended"], "agent_group": "a"},
    ),
    ("hook add h https://a.example/x", "hook.add", {"name": "h", "url": "https://a.example/x"}),
    ("hook list", "hook.list", {}),
    ("hook remove h", "hook.remove", {"name": "h"}),
    ("hook test h", "hook.test", {"name": "h"}),
    ("token revoke app", "token.revoke", {"name": "app"}),
    ("agent-group add a", "agent_group.add", {"name": "a"}),
    (
        "agent-group add a --provider model --model m",
        "agent_group.add",
        {"name": "a", "provider": "model", "model": "m"},
    ),
    ("agent-group list", "agent_group.list", {}),
    ("agent-group file list a", "agent_file.list", {"agent_group": "a"}),
    ("agent-group file show a AGENT.md", "agent_file.show", {"agent_group": "a", "path": "AGENT.md"}),
    (
        "agent-group file set a AGENT.md --from /dev/null --revision r",
        "agent_file.set",
        {"agent_group": "a", "path": "AGENT.md", "text": "", "revision": "r", "only_look": False},
    ),
    (
        "agent-group file remove a memory/x.md --revision r",
        "agent_file.remove",
        {"agent_group": "a", "path": "memory/x.md", "revision": "r"},
    ),
    ("question list", "question.list", {}),
    ("question answer s yes --message m", "question.answer", {"session": "s", "text": "yes", "message": "m"}),
    ("logs --session s --level error --limit 5", "host_log.list", {"session": "s", "level": "error", "limit": 5}),
    ("schedule upcoming --agent-group a --days 3", "schedule.upcoming", {"agent_group": "a", "days": 3}),
    ("agent-group image history a", "agent_image.list", {"name": "a"}),
    ("agent-group image log a 3", "agent_image.log", {"name": "a", "number": 3}),
    ("agent-group image rollback a", "agent_image.rollback", {"name": "a"}),
    ("agent-group image rollback a 0", "agent_image.rollback", {"name": "a", "number": 0}),
    ("agent-group show a", "agent_group.show", {"name": "a"}),
    (
        "agent-group set a --memory 512m --cpus 1.5 --pids 9 --gpus 2 --mount /srv/x:books:rw "
        "--unset model --unset image",
        "agent_group.set",
        {
            "name": "a",
            "memory_bytes": 512 * 1024**2,
            "cpus": 1.5,
            "pids": 9,
            "gpus": 2,
            "add_mount": {"path": "/srv/x", "name": "books", "writable": True},
            "unset": ["model", "image"],
        },
    ),
    (
        "agent-group set a --mount /srv/a:b:books",
        "agent_group.set",
        {"name": "a", "add_mount": {"path": "/srv/a:b", "name": "books", "writable": False}},
    ),
    ("agent-group set a --unmount books", "agent_group.set", {"name": "a", "remove_mount": "books"}),
    ("agent-group set a --unset memory", "agent_group.set", {"name": "a", "unset": ["memory_bytes"]}),
    (
        "agent-group set a --budget-usd 2.5 --budget-tokens 1000 --budget-period day",
        "agent_group.set",
        {"name": "a", "budget_usd": 2.5, "budget_tokens": 1000, "budget_period": "day"},
    ),
    ("agent-group set a --unset budget-usd", "agent_group.set", {"name": "a", "unset": ["budget_usd"]}),
    ("agent-group rename a b", "agent_group.rename", {"name": "a", "new_name": "b"}),
    ("agent-group remove a --with-sessions --yes", "agent_group.remove", {"name": "a", "with_sessions": True}),
    ("agent-group rm a --yes", "agent_group.remove", {"name": "a", "with_sessions": False}),
    ("messaging-group add t:1", "messaging_group.add", {"address": "t:1"}),
    (
        "messaging-group add t:1 --name N --group",
        "messaging_group.add",
        {"address": "t:1", "name": "N", "is_group": True},
    ),
    ("messaging-group list", "messaging_group.list", {}),
    ("messaging-group show t:1", "messaging_group.show", {"address": "t:1"}),
    ("messaging-group set t:1 --dm", "messaging_group.set", {"address": "t:1", "is_group": False}),
    ("messaging-group rename t:1 N", "messaging_group.set", {"address": "t:1", "name": "N"}),
    ("messaging-group remove t:1 --yes", "messaging_group.remove", {"address": "t:1"}),
    (
        "wire t:1 a",
        "wiring.add",
        {
            "messaging_group": "t:1",
            "agent_group": "a",
            "session_mode": "shared",
            "per_user": False,
            "engage": "all",
            **NO_RESET,
        },
    ),
    (
        "wire t:1 a --reset both --reset-minutes 5 --reset-hour 3 --archived reopen",
        "wiring.add",
        {
            "messaging_group": "t:1",
            "agent_group": "a",
            "session_mode": "shared",
            "per_user": False,
            "engage": "all",
            "reset": "both",
            "reset_minutes": 5,
            "reset_hour": 3,
            "archived": "reopen",
            **UNCHANGED,
        },
    ),
    (
        "wire t:1 a --session-mode per-thread --per-user --pattern ^bot",
        "wiring.add",
        {
            "messaging_group": "t:1",
            "agent_group": "a",
            "session_mode": "per-thread",
            "per_user": True,
            "engage": "pattern",
            "pattern": "^bot",
            **NO_RESET,
        },
    ),
    ("unwire t:1 a", "wiring.remove", {"messaging_group": "t:1", "agent_group": "a"}),
    ("wirings", "wiring.list", {}),
    ("destination add a ops t:1", "destination.add", {"agent_group": "a", "name": "ops", "messaging_group": "t:1"}),
    ("destination list", "destination.list", {}),
    ("destination list a", "destination.list", {"agent_group": "a"}),
    ("destination remove a ops", "destination.remove", {"agent_group": "a", "name": "ops"}),
    ("session list", "session.list", {"terminal": TERMINAL}),
    ("session ls", "session.list", {"terminal": TERMINAL}),
    ("schedule remove s", "schedule.cancel", {"name": "s"}),
    ("token delete t", "token.revoke", {"name": "t"}),
    (
        "session list --agent-group a --messaging-group t:1 --channel t --status ended --unread --limit 3 --after s",
        "session.list",
        {
            "agent_group": "a",
            "messaging_group": "t:1",
            "channel": "t",
            "status": "ended",
            "unread": True,
            "limit": 3,
            "after": "s",
            "terminal": TERMINAL,
        },
    ),
    ("session show ses_0", "session.show", {"session": "ses_0"}),
    ("session path ses_0", "session.path", {"session": "ses_0"}),
    ("session transcript ses_0 --limit 4", "session.transcript", {"session": "ses_0", "limit": 4}),
    ("session new ses_0", "session.new", {"session": "ses_0"}),
    (
        "session new --messaging-group t:1 --agent-group a --thread 7",
        "session.new",
        {"messaging_group": "t:1", "agent_group": "a", "thread": "7"},
    ),
    ("session stop ses_0", "session.stop", {"session": "ses_0"}),
    ("session delete ses_0", "session.delete", {"session": "ses_0"}),
    ("session delete ses_0 --for-good --yes", "session.delete", {"session": "ses_0", "for_good": True}),
    ("session restore ses_0", "session.restore", {"session": "ses_0"}),
    ("session archive ses_0", "session.archive", {"session": "ses_0"}),
    (
        "session resume ses_0 --messaging-group t:1 --agent-group a --thread 7",
        "session.resume",
        {"session": "ses_0", "messaging_group": "t:1", "agent_group": "a", "thread": "7"},
    ),
    ("session branch ses_0", "session.branch", {"session": "ses_0"}),
    ("session compress ses_0", "session.compress", {"session": "ses_0"}),
    ("session undo ses_0 -n 3", "session.undo", {"session": "ses_0", "count": 3}),
    ("session undo ses_0 -n 4 --yes", "session.undo", {"session": "ses_0", "count": 4}),
    ("session retry ses_0", "session.retry", {"session": "ses_0"}),
    ("session prune --older-than 2w", "session.prune", {"older_than_days": 14.0}),
    (
        "session prune --older-than 12h --agent-group a --apply --for-good --yes",
        "session.prune",
        {"older_than_days": 0.5, "agent_group": "a", "apply": True, "for_good": True},
    ),
    ("session logs ses_0 --max-bytes 5", "session.logs", {"session": "ses_0", "max_bytes": 5}),
    ("status", "status", {}),
    ("usage", "usage", {"by": "day"}),
    (
        "usage --by agent-group --agent-group a --session ses_0 --since 2026-01-01 --until 2026-02-28 --limit 5",
        "usage",
        {
            "by": "agent-group",
            "agent_group": "a",
            "session": "ses_0",
            "since": "2026-01-01",
            "until": "2026-02-28",
            "limit": 5,
        },
    ),
]
USED = {"turns": 1, "input_tokens": 5, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0,
        "reasoning_tokens": 0, "cost_usd": 0.5, "called_tokens": 7, "called_usd": None}  # fmt: skip
TURN = {"session_id": "s", "agent_group": "a", "state": "running", "since": "2026-11-20T21:39:13.042Z",
        "elapsed_seconds": 1.5, "attempt": 1, "tool": None}  # fmt: skip
STATUS: dict[str, Any] = {
    "host": {"running": True, "pid": None, "since": None, "runtime": None, "runtime_reason": None, "data": "/data",
             "version": "0.1.0"},
    "agents": [], "waiting_agents": 0, "backlog": {"messages": 0, "oldest": None}, "deliveries_waiting": 0,
    "files": {"central.db": 4096, "history.db": 0, "largest": []},
    "limits": [{"what": "notices in a chat", "subject": "memory:one", "hour": "2026-11-20T21:00Z", "held_back": 3}],
    "sessions": 0, "turns_running": 0, "turns": [TURN], "faults": [], "repairs": [], "tool_servers": [],
    "failures": [{"at": "2026-11-20T21:39:13.042Z", "session_id": "s", "what": "x"}],
}  # fmt: skip


def result_of(operation: str) -> Any:
    """What an operation gives, as far as the printing of it needs."""
    name = operation.split(".")[-1]
    special = {
        "status": STATUS,
        "usage": {"by": "day", "rows": [{"day": "2026-02-28", **USED}], "total": {"total": "total", **USED}},
        "session.path": {"path": "/data/s"},
        "session.transcript": [],
        "agent_file.show": {"text": "Be kind.\n", "revision": "r"},
        "agent_file.set": {"diff": [{"kind": "added", "text": "Be kind."}], "revision": "r"},
        "question.list": [{"session_id": "ses_0", "text": "Tea?", "options": ["yes", "no"], "asked": "web:owner"}],
        "host_log.list": [{"time": "t", "level": "info", "event": "one", "logger": "host", "session_id": "ses_0"}],
        "schedule.upcoming": [{"at": "2026-11-30T09:00:00.000Z", "schedule": "tea", "agent_group": "a"}],
        "session.logs": {"text": "a line\n"},
        "session.stop": {"session_id": "ses_0", "stopped": True, "cancelled": 0},
        "session.delete": {"session_id": "ses_0", "deleted": True, "cancelled": 0, "restorable": True},
        "session.undo": {"session_id": "ses_0", "exchanges": 2, "messages": ["one", "two"]},
        "session.retry": {"session_id": "ses_0", "exchanges": 1, "messages": ["one"]},
        "session.prune": {"pruned": False, "sessions": [SESSION]},
        "session.list": [SESSION],
        "token.add": {"token": "dw_x", "address": "http://127.0.0.1:1", "name": "app"},
        "token.revoke": {"revoked": "app"},
        "hook.add": {"secret": "whsec_x", "name": "h"},
        "hook.test": {"name": "h", "taken": True, "error": None},
    }
    if operation in special:
        return special[operation]
    if operation.startswith("session"):
        return SESSION
    return [{"name": "one"}] if name == "list" else {"name": "one", "removed": "one", "sessions": 1, "agent_groups": []}


@pytest.mark.parametrize(("line", "operation", "params"), CALLS)
def test_a_command_calls_its_operation(
    line: str, operation: str, params: dict[str, Any], run: Run, host: PlayedHost
) -> None:
    host.operations[operation] = result_of(operation)

    result = run(*line.split())

    assert result.exit_code == 0, result.stderr
    assert host.calls == [(operation, params)]
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(("line", "operation", "_params"), CALLS)
def test_with_json_it_prints_what_the_operation_gave(
    line: str, operation: str, _params: object, run: Run, host: PlayedHost
) -> None:
    host.operations[operation] = result_of(operation)

    result = run(*line.split(), "--json")

    assert json.loads(result.stdout) == result_of(operation)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("agent-group remove a", "agent_group.show"),
        ("messaging-group remove t:1", "messaging_group.show"),
        ("session delete ses_0 --for-good", "session.show"),
        ("session undo ses_0 -n 4", "session.show"),
        ("session prune --older-than 90d --apply --for-good", "session.prune"),
    ],
)
def test_what_cannot_be_undone_is_not_done_where_nobody_can_be_asked(
    line: str, shown: str, run: Run, host: PlayedHost
) -> None:
    host.operations[shown] = result_of(shown)

    result = run(*line.split())

    assert result.exit_code == 2
    assert "Error: Nothing was done" in result.stderr
    assert "This cannot be undone: add --yes to do it" in result.stderr
    assert [name for name, _ in host.calls] == [shown]


def test_what_is_deleted_says_how_it_is_brought_back(run: Run, host: PlayedHost) -> None:
    host.operations["session.delete"] = result_of("session.delete")

    assert "`dumbwaiter session restore ses_0`" in run("session", "delete", "ses_0").stderr
    assert "restore" not in run("session", "delete", "ses_0", "--json").stderr


def test_a_number_is_one_of_the_list_that_this_terminal_was_shown(run: Run, host: PlayedHost) -> None:
    host.operations["session.numbered"] = lambda params: {"id": {"2": SESSION["id"]}.get(params["number"])}
    host.operations["session.path"] = {"path": "/data/s"}

    assert run("session", "path", "2").exit_code == run("session", "path", "9").exit_code == 0

    assert host.calls == [
        ("session.numbered", {"terminal": TERMINAL, "number": "2"}),
        ("session.path", {"session": SESSION["id"]}),
        ("session.numbered", {"terminal": TERMINAL, "number": "9"}),
        ("session.path", {"session": "9"}),
    ]


def test_the_status_of_a_host_that_does_not_run_is_3(run: Run, host: PlayedHost) -> None:
    host.operations["status"] = result_of("status")
    assert run("status").exit_code == 0
    host.operations["status"] = result_of("status") | {"host": result_of("status")["host"] | {"running": False}}
    assert run("status", "--json").exit_code == 3
    assert "not running: start it with `dumbwaiter run --data /data`" in run("status").stdout


@pytest.mark.parametrize(
    "line",
    ["session list", "status", "wirings", "usage", "session search x", "session sql x select", "events", "doctor"],
)
def test_looking_makes_no_folder(line: str, run: Run, data: Path) -> None:
    result = run(*line.split(), "--data", str(data / "nothing"))

    assert not (data / "nothing").exists()
    assert f"`dumbwaiter run --data {data / 'nothing'}`" in result.stdout + result.stderr
    assert line == "doctor" or "there is no data folder" in result.stderr


def test_without_a_host_the_operation_runs_in_this_process(run: Run, data: Path) -> None:
    calls: list[tuple[Path, str, dict[str, Any]]] = []

    def locally(settings: Any, name: str, params: dict[str, Any]) -> Any:
        calls.append((settings.data, name, params))
        return [SESSION]

    result = run("session", "list", "--limit", "2", "--json", invocation=Invocation(locally=locally))

    assert json.loads(result.stdout) == [SESSION]
    assert calls == [(data, "session.list", {"limit": 2, "terminal": TERMINAL})]


def test_the_data_folder_can_be_named_anywhere_and_the_last_one_counts(run: Run, host: PlayedHost, data: Path) -> None:
    host.operations["session.list"] = []

    assert run("--data", "/nowhere", "session", "list", "--data", str(data)).exit_code == 0
    assert run("--data", "/nowhere", "session", "--data", str(data), "list").exit_code == 0
    assert len(host.calls) == 2


def test_a_table_in_a_pipe_is_aligned_columns_with_times_as_stored(run: Run, host: PlayedHost) -> None:
    host.operations["wiring.list"] = [
        {
            "messaging_group": "t:1",
            "agent_group": "assistant",
            "session_mode": "shared",
            "per_user": True,
            "engage": "all",
        },
        {
            "messaging_group": "t:longer",
            "agent_group": "b",
            "session_mode": "shared",
            "per_user": False,
            "engage": "all",
        },
    ]

    assert run("wirings").stdout.splitlines() == [
        "MESSAGING GROUP  AGENT GROUP  SESSION MODE  PER USER  ENGAGE  PATTERN  RESET",
        "t:1              assistant    shared        yes       all     -        -",
        "t:longer         b            shared        no        all     -        -",
    ]


def test_an_empty_list_says_so_beside_the_output(run: Run, host: PlayedHost) -> None:
    host.operations["session.list"] = []

    result = run("session", "list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "no such sessions" in result.stderr


def test_what_an_agent_named_itself_cannot_reach_the_terminal(run: Run, host: PlayedHost) -> None:
    host.operations["session.show"] = SESSION

    shown = run("session", "show", "ses_0").stdout

    assert "A title" in shown
    assert "\x1b" not in shown
    assert ["now", "row 3", "too long"] in [re.split(r"  +", line) for line in shown.splitlines()]


def test_session_path_prints_the_folder_only(run: Run, host: PlayedHost) -> None:
    host.operations["session.path"] = {"path": "/data/s"}

    assert run("session", "path", "ses_0").stdout == "/data/s\n"


def test_session_new_prints_the_id_only(run: Run, host: PlayedHost) -> None:
    host.operations["session.new"] = SESSION

    assert run("session", "new", "ses_0").stdout == f"{SESSION['id']}\n"


ENTRY = {
    "id": "msg_1", "direction": "in", "time": "2026-11-20T21:39:13.042Z", "sender": "Zoë", "text": "two\nlines\x1b[2J",
    "files": ["/data/f"], "kind": "chat", "status": "pending",
}  # fmt: skip


def test_a_transcript_shows_who_said_what(run: Run, host: PlayedHost) -> None:
    host.operations["session.transcript"] = [ENTRY, ENTRY | {"direction": "out", "sender": None, "status": "delivered"}]

    assert run("session", "transcript", "s").stdout.splitlines() == [
        "2026-11-20T21:39:13.042Z  → Zoë  (pending)",
        "    two",
        "    lines",
        "    [file] /data/f",
        "2026-11-20T21:39:13.042Z  ← agent",
        "    two",
        "    lines",
        "    [file] /data/f",
    ]


def test_tail_prints_entries_as_they_come(run: Run, host: PlayedHost) -> None:
    host.streams["session.tail"] = [ENTRY, ENTRY]

    result = run("session", "tail", "s", "-n", "3", "--json")

    assert [json.loads(line) for line in result.stdout.splitlines()] == [ENTRY, ENTRY]
    assert host.params_of("session.tail") == {"session": "s", "last": 3}


def test_tail_without_a_host_shows_what_is_there(run: Run) -> None:
    invocation = Invocation(locally=lambda _settings, _name, params: [ENTRY] * params["limit"])

    result = run("session", "tail", "s", "-n", "2", "--json", invocation=invocation)

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert "No host is running" in result.stderr


def test_inject_prints_the_message_ids(run: Run, host: PlayedHost, tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    taken = {"message_id": "msg_1", "session_id": "ses_1", "agent_group": "a", "duplicate": False}
    host.operations["message.inject"] = {
        "accepted": [taken, taken | {"message_id": "msg_2", "duplicate": True}],
        "dropped": None,
    }

    result = run(
        *("inject", "t:1", "-", "--sender", "u", "--sender-name", "U", "--thread", "7", "--mention", "--id", "p1"),
        *("--file", str(tmp_path / "a.txt")),
        stdin="two\nlines",
    )

    assert (result.exit_code, result.stdout) == (0, "msg_1\nmsg_2\n")
    assert "accepted this message before" in result.stderr
    assert host.params_of("message.inject") == {
        "messaging_group": "t:1",
        "text": "two\nlines",
        "sender": "u",
        "sender_name": "U",
        "thread": "7",
        "mention": True,
        "files": [str(tmp_path / "a.txt")],
        "platform_message_id": "p1",
    }


def test_inject_that_nobody_takes_says_why_and_fails(run: Run, host: PlayedHost) -> None:
    host.operations["message.inject"] = {"accepted": [], "dropped": "not mentioned"}

    result = run("inject", "t:1", "hello")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no agent took the message: not mentioned\n"


def test_the_choices_of_wire_are_those_of_the_registry() -> None:
    choices = {parameter.name: getattr(parameter.type, "choices", ()) for parameter in wire.params}

    assert tuple(choices["session_mode"]) == tuple(SessionMode)
    assert tuple(choices["engage"]) == tuple(Engage)


def completed(words: str) -> list[str]:
    """What a shell is offered for the last of some words."""
    number = len(words.split()) - (not words.endswith(" "))
    asked = {"_DUMBWAITER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    result = CliRunner(env=asked).invoke(root, [], prog_name="dumbwaiter")
    return [line.partition(",")[2] for line in result.stdout.split()]


def test_a_shell_completes_ids_titles_names_and_chats(host: PlayedHost, data: Path) -> None:
    host.operations["session.list"] = [{"id": SESSION["id"], "short_id": "01234", "title": "Plan", "preview": ""}]
    host.operations["agent_group.list"] = [{"name": "assistant"}, {"name": "reviewer"}]
    host.operations["schedule.list"] = [{"name": "tea", "when": "every 2 hours"}, {"name": "oven", "when": "once"}]
    host.operations["messaging_group.list"] = [{"address": "cli:terminal", "name": None}]

    assert completed(f"dumbwaiter --data {data} session show ") == ["01234", "Plan"]
    assert completed(f"dumbwaiter --data {data} chat re") == ["reviewer"]
    assert completed(f"dumbwaiter --data {data} wire cli") == ["cli:terminal"]
    assert completed(f"dumbwaiter --data {data} schedule pause t") == ["tea"]
    assert completed(f"dumbwaiter --data {data}/nowhere session show ") == []


def test_a_session_without_a_title_is_listed_on_a_narrow_terminal_with_its_first_words(
    host: PlayedHost, data: Path
) -> None:
    host.operations["session.list"] = [SESSION | {"title": None, "preview": "tea: The tea is ready."}]
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 60))
    try:
        command = [COMMAND, "--data", str(data), "session", "list"]
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        subprocess.run(command, stdout=slave, check=True, timeout=60, env=environment)
        shown = os.read(master, 4096).decode()
    finally:
        os.close(master)
        os.close(slave)

    assert "preview" not in shown
    assert "tea: The" in shown
