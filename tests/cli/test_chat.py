from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.host import PlayedHost

ACCEPTED = {"type": "accepted", "message_id": "msg_1", "session_id": "ses_1"}
DONE = {"type": "done", "status": "completed", "error": None}


def message(text: str, *files: str, from_host: bool = False) -> dict[str, Any]:
    return {"type": "message", "text": text, "files": list(files), "from_host": from_host}


def done(status: str, error: str | None = None) -> dict[str, Any]:
    return {"type": "done", "status": status, "error": error}


def test_a_message_prints_the_replies_and_nothing_else(run: Run, host: PlayedHost) -> None:
    host.streams["chat"] = [
        ACCEPTED,
        message("one"),
        message("two\nlines\x1b[2J", "/data/sent/f"),
        message("a notice", from_host=True),
        DONE,
    ]

    result = run("chat", "helper", "-m", "hello", "--session", "s", "--timeout", "7")

    assert (result.exit_code, result.stdout) == (0, "one\ntwo\nlines\n")
    assert result.stderr == "[file] /data/sent/f\na notice\n"
    assert host.params_of("chat") == {"agent_group": "helper", "session": "s", "text": "hello", "timeout": 7}


def test_the_answer_to_a_command_is_printed_as_it_is(run: Run, host: PlayedHost) -> None:
    host.streams["chat"] = [ACCEPTED | {"command": True}, message("Nothing runs.\nAgent: a", from_host=True), DONE]

    result = run("chat", "-m", "/status")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "Nothing runs.\nAgent: a\n", "")


def test_a_command_that_failed_is_one_sentence_beside_its_answer(run: Run, host: PlayedHost) -> None:
    host.streams["chat"] = [ACCEPTED | {"command": True}, message("It broke.", from_host=True), done("failed", "x")]

    result = run("chat", "-m", "/status")

    assert (result.exit_code, result.stdout) == (1, "It broke.\n")
    assert result.stderr == "Error: the command failed: the log of the host says why\n"


def test_a_dash_reads_standard_input(run: Run, host: PlayedHost) -> None:
    host.streams["chat"] = lambda params: [ACCEPTED, message(params["text"]), DONE]

    assert run("chat", "-m", "-", stdin="a\nb").stdout == "a\nb\n"


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (done("failed", "the agent died"), "the turn failed: the agent died"),
        (done("cancelled"), "the message was cancelled"),
        (done("timeout"), "no answer within 120 seconds: it is not lost: `dumbwaiter session transcript ses_1`"),
        (None, "the host went away before it had answered"),
    ],
)
def test_a_turn_without_success_is_one_sentence_and_status_1(
    last: dict[str, Any] | None, said: str, run: Run, host: PlayedHost
) -> None:
    host.streams["chat"] = [ACCEPTED, message("partly"), *([last] if last else [])]

    result = run("chat", "-m", "hello")

    assert (result.exit_code, result.stdout) == (1, "partly\n")
    assert result.stderr.startswith(f"Error: {said}")
    assert result.stderr.count("\n") == 1


def test_a_budget_that_is_used_up_is_said_with_the_line_that_gives_more(run: Run, host: PlayedHost) -> None:
    said = "The budget of assistant for today is used up: 20 of 10 tokens. It begins anew at 2026-12-01 00:00 UTC."
    host.streams["chat"] = [ACCEPTED, done("failed", said) | {"more": "budget", "agent_group": "assistant"}]

    result = run("chat", "-m", "hello")

    assert "00:00 UTC: `dumbwaiter agent-group set assistant --budget-tokens N`" in result.stderr
    assert "logs" not in result.stderr


def test_with_json_it_prints_the_whole_exchange_also_of_a_failure(run: Run, host: PlayedHost) -> None:
    host.streams["chat"] = [ACCEPTED, message("partly\x1b[2J"), done("failed", "why")]

    result = run("chat", "-m", "hello", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "message_id": "msg_1",
        "session_id": "ses_1",
        "status": "failed",
        "error": "why",
        "replies": [{"text": "partly\x1b[2J", "files": [], "from_host": False}],
    }


def test_in_a_pipe_every_line_is_a_message_and_a_failed_one_stops_nothing(run: Run, host: PlayedHost) -> None:
    host.streams["chat"] = lambda params: (
        [ACCEPTED, done("failed", "no")]
        if params["text"] == "bad"
        else [ACCEPTED, message(f"re: {params['text']}"), DONE]
    )

    result = run("chat", stdin="one\n\nbad\ntwo\n")

    assert (result.exit_code, result.stdout) == (1, "re: one\nre: two\n")
    assert result.stderr.startswith("Error: the turn failed: no")


def test_an_empty_message_is_wrong_usage(run: Run, host: PlayedHost) -> None:
    assert run("chat", "-m", " ").exit_code == 2
    assert host.calls == []
