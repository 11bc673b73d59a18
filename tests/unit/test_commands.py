"""What a command in a chat is, and what is answered to it."""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from host.access.answers import HOST_WIDE
from host.operations import command_answers as answers
from host.operations.command_answers import ConversationFacts, Listed, QueueFacts, Tokens, UsedBudget
from host.operations.command_steps import STEPS
from host.routing.commands import COMMANDS, ChatCommand, help_text, parse
from shared_schema.errors import Conflict

BERLIN = ZoneInfo("Europe/Berlin")
NOON = "2026-02-28T12:00:00.000Z"
TALK = ConversationFacts("ses_1", "Plans", False, "assistant", "echo", None)
IDLE = QueueFacts(waiting=0, attempt=1, since=None, seconds=0.0, doing=None, queued=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_known_by_its_word(name: str) -> None:
    assert parse(f"/{name}") == ChatCommand(name)


def test_every_command_does_something_and_nothing_else_is_done() -> None:
    assert set(STEPS) == set(COMMANDS), (
        "a command is an entry in host/routing/commands.py and a line in STEPS of host/operations/command_steps.py"
    )


def test_a_command_about_the_host_is_answered_in_a_chat_without_an_agent_too() -> None:
    assert set(HOST_WIDE) == {name for name, entry in COMMANDS.items() if entry.host_wide}, (
        "a command that is `host_wide` in host/routing/commands.py is answered by HOST_WIDE of host/access/answers.py"
    )


def test_every_command_has_its_row_in_the_page_for_people() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")

    rows = set(re.findall(r"^\| `/([a-z]+)[ `]", page, re.MULTILINE))

    assert rows == set(COMMANDS), "docs/commands.md has a row for each command, and none for another"


@pytest.mark.parametrize("text", ["/new", "/NEW", "/New", "  /new \n", "/new@bot", "/NEW@Some_Bot"])
def test_case_space_around_it_and_the_name_of_the_bot_do_not_matter(text: str) -> None:
    assert parse(text) == ChatCommand("new")


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("/title My plans", "My plans"),
        ("/title@bot   My  plans  ", "My  plans"),
        ("/title\nMy plans\nand more", "My plans\nand more"),
        ("/title \n\t ", ""),
        ("/title\u00a0Plans", "Plans"),
    ],
)
def test_what_stands_behind_it_is_its_argument(text: str, argument: str) -> None:
    assert parse(text) == ChatCommand("title", argument)


@pytest.mark.parametrize(
    "text",
    [
        "/clearance",  # FAILURES 27
        "/newer",
        "/news today",
        "/new-york",
        "/new_york",
        "/new.",
        "/new/er",
        "/new2",
        "/new@",
        "/new@ bot",
        "/ new",
        "//new",
        "/\nnew",
        "please /new",
        "new",
        "/",
        "",
        "   ",
        "/etc/passwd",
        "/unknown",
        "/new\u200b",
        "\u200b/new",
        "/\u017ftop",
        "/sto\u0440",
        "\\new",
        "/" + "n" * 100_000,
    ],
)
def test_everything_else_is_for_the_agent(text: str) -> None:
    assert parse(text) is None


def test_the_help_has_a_line_for_every_command_and_fits_into_a_message() -> None:
    text = help_text()

    assert [line.split(":")[0].split()[0] for line in text.splitlines()[: len(COMMANDS)]] == [
        f"/{name}" for name in COMMANDS
    ]
    assert len(text) < 1500


def test_a_list_is_numbered_and_in_the_time_zone_of_the_chat() -> None:
    entries = [
        Listed("Plans", NOON, unread=False, present=True, archived=False),
        Listed(None, NOON, unread=True, present=False, archived=True),
    ]

    assert answers.listed(entries, BERLIN).splitlines() == [
        "1. “Plans”, 2026-02-28 13:00 (you are here)",
        "2. nothing said yet, 2026-02-28 13:00 (unread, archived)",
        "",
        "/resume and a number goes back to one of them.",
    ]
    assert answers.listed([], BERLIN) == "There is no conversation here yet."


def test_ten_conversations_with_the_longest_titles_fit_into_a_message() -> None:
    entries = [Listed("w" * 100, NOON, unread=True, present=True, archived=True)] * 10

    assert len(answers.listed(entries, BERLIN)) < 1500


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (IDLE, "Nothing runs, and nothing waits."),
        (
            QueueFacts(2, 3, NOON, 65.0, "bash", False),
            "Working since 13:00:00, for 1 min, with “bash”, attempt 3. 2 messages wait for an answer.",
        ),
        (
            QueueFacts(1, 1, None, 0.0, None, True),
            "Waiting until another agent has finished. 1 message waits for an answer.",
        ),
        (
            QueueFacts(1, 2, None, 0.0, None, False),
            "The agent is about to begin, attempt 2. 1 message waits for an answer.",
        ),
        (QueueFacts(0, 1, NOON, 7300.0, None, False), "Working since 13:00:00, for 2 h."),
    ],
)
def test_the_status_says_what_goes_on(work: QueueFacts, line: str) -> None:
    assert answers.state(TALK, work, BERLIN).splitlines()[0] == line


def test_the_status_says_who_answers_and_in_which_conversation() -> None:
    assert answers.state(TALK, IDLE, BERLIN).splitlines()[1:] == [
        "Agent: assistant (echo)",
        "Conversation: “Plans” (ses_1)",
    ]
    other = ConversationFacts("ses_2", None, True, "helper", "model", "large")
    assert answers.state(other, IDLE, BERLIN).splitlines()[1:] == [
        "Agent: helper (model, model large)",
        "Conversation: without a title, archived (ses_2)",
    ]


@pytest.mark.parametrize(
    ("allowance", "lines"),
    [
        (
            UsedBudget("assistant", "month", 1234, 0.5, None, None),
            ["assistant this month: 1,234 tokens, $0.50.", "There is no budget."],
        ),
        (
            UsedBudget("assistant", "day", 150, 0.001, 100, 10.0),
            ["assistant today: 150 tokens, $0.0010.", "Left of the budget: $10.00 of $10.00 and 0 of 100 tokens."],
        ),
        (
            UsedBudget("assistant", "total", 0, 0.0, 1000, None),
            ["assistant altogether: 0 tokens, $0.00.", "Left of the budget: 1,000 of 1,000 tokens."],
        ),
    ],
)
def test_the_usage_says_what_is_left(allowance: UsedBudget, lines: list[str]) -> None:
    here = "This conversation: 1,000 tokens in, 20 out, $0.12."
    assert answers.usage(Tokens(1000, 20, 0.12), allowance).splitlines() == [here, *lines]


def test_what_was_taken_back_and_stopped_is_named_by_its_beginning() -> None:
    assert answers.taken_back(["  one\n two "], 1, 1) == "Taken back: “one two”."
    assert answers.taken_back(["one"], 1, 3) == "Taken back: “one”. There was nothing else."
    assert answers.taken_back(["", "two"], 2, 3) == "Taken back: the last 2 exchanges, which were all, from “two” on."
    assert answers.taken_back(["one", "two"], 1, 1) == (
        "Taken back: 2 messages that were answered together, from “one” on."
    )
    assert answers.asked_again(["one", "two"]) == "Asked again: 2 messages, from “one” on."
    assert answers.asked_again([""]) == "Asked again: a file."
    assert answers.stopped([], 0) == "There is nothing to stop."
    assert answers.stopped([], 1) == "Stopped."
    assert answers.stopped(["w" * 100], 1) == f"Stopped: “{'w' * 59}…” will not be answered."
    assert answers.stopped(["one", "two"], 2) == "Stopped: 2 messages will not be answered, from “one” on."


def test_a_quotation_is_one_line_of_what_can_be_seen() -> None:
    assert answers.quoted("a\x1b[2J\u202eb\nc") == "“a [2J b c”"


def test_an_error_is_a_sentence_without_the_hint_for_the_command_line() -> None:
    assert Conflict("it is gone already", hint="`dumbwaiter session list`").told == "It is gone already."
