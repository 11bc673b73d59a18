from __future__ import annotations

import io
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from host.api.client import HostClient
from host.cli.conversation import Conversation
from host.cli.terminal import history, new_prompt, talk
from tests.cli.host import PlayedHost
from tests.cli.test_chat import ACCEPTED, DONE, done, message

LEAVE = "\x04"
PATIENCE = 20.0


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as keyboard:
        yield keyboard


def talked(keyboard: PipeInput, data: Path, typed: str) -> str:
    """What the screen shows after somebody has typed that and left."""
    shown = io.StringIO()
    keyboard.send_text(typed)
    conversation = Conversation(HostClient(data / "host.sock", seconds=5), seconds=5)
    prompt = new_prompt(InMemoryHistory(), keyboard=keyboard, screen=DummyOutput())
    assert talk(conversation, prompt, Console(file=shown, width=200), conversation.unread()) == 0
    return shown.getvalue()


@pytest.fixture
def echo(host: PlayedHost) -> PlayedHost:
    host.operations["terminal.unread"] = []
    host.streams["chat"] = lambda params: [ACCEPTED, message(f"re: {params['text']}"), DONE]
    return host


def test_enter_sends_and_the_reply_is_shown(keyboard: PipeInput, echo: PlayedHost, data: Path) -> None:
    assert "re: hello\n" in talked(keyboard, data, "hello\r" + LEAVE)


@pytest.mark.parametrize("leave", ["\x03", "\x04"])
def test_control_c_and_control_d_leave(leave: str, keyboard: PipeInput, echo: PlayedHost, data: Path) -> None:
    talked(keyboard, data, leave)

    assert [name for name, _ in echo.calls] == ["terminal.unread"]


@pytest.mark.parametrize("typed", ["one\x1b\rtwo\r", "\x1b[200~one\ntwo\x1b[201~\r"], ids=["alt-enter", "paste"])
def test_a_message_can_have_several_lines(typed: str, keyboard: PipeInput, echo: PlayedHost, data: Path) -> None:
    talked(keyboard, data, typed + LEAVE)

    assert echo.params_of("chat")["text"] == "one\ntwo"


def test_a_failed_turn_is_one_clear_line_and_the_prompt_comes_back(
    keyboard: PipeInput, echo: PlayedHost, data: Path
) -> None:
    answers = iter(
        [
            [ACCEPTED, message("it died", from_host=True), done("failed", "the agent died")],
            [ACCEPTED, message("well again"), DONE],
        ]
    )
    echo.streams["chat"] = lambda _params: next(answers)

    shown = talked(keyboard, data, "one\rtwo\r" + LEAVE)

    assert "✗ the turn failed: the agent died" in shown
    assert "it died" not in shown
    assert "well again" in shown


def test_the_answer_to_a_command_is_shown(keyboard: PipeInput, echo: PlayedHost, data: Path) -> None:
    echo.streams["chat"] = [ACCEPTED | {"command": True}, message("/new: …\n/help: …", from_host=True), DONE]

    assert talked(keyboard, data, "/help\r" + LEAVE).count("/new: …\n/help: …\n") == 1


def test_letters_that_came_meanwhile_are_shown_before_the_prompt(
    keyboard: PipeInput, echo: PlayedHost, data: Path
) -> None:
    letters = iter(
        [[{"text": "at night", "files": ["/f"], "created_at": "2026-11-20T21:39:13.042Z", "from_host": False}]]
    )
    echo.operations["terminal.unread"] = lambda _params: next(letters, [])

    shown = talked(keyboard, data, "\r" + LEAVE)

    assert "(2026-11-20T21:39:13.042Z) at night\n[file] /f\n" in shown


def test_an_agent_cannot_write_escape_sequences_or_markup(keyboard: PipeInput, echo: PlayedHost, data: Path) -> None:
    echo.streams["chat"] = [ACCEPTED, message("\x1b]0;title\x07[red]not red[/red]\x1b[2J"), DONE]

    shown = talked(keyboard, data, "x\r" + LEAVE)

    assert "[red]not red[/red]" in shown
    assert "\x1b" not in shown


def test_a_host_that_is_gone_is_a_line_and_no_end(keyboard: PipeInput, echo: PlayedHost, data: Path) -> None:
    def vanish(_params: Any) -> list[Any]:
        (data / "host.sock").unlink()
        return [ACCEPTED]

    echo.streams["chat"] = vanish

    shown = talked(keyboard, data, "one\rtwo\r" + LEAVE)

    assert "✗ the host went away" in shown
    assert "✗ no host is running" in shown


def test_the_history_is_private(data: Path) -> None:
    (data / "chat-history").touch(mode=0o644)

    assert isinstance(history(data), FileHistory)
    assert stat.S_IMODE((data / "chat-history").stat().st_mode) == 0o600


def test_without_a_place_for_it_the_history_is_in_memory(data: Path) -> None:
    assert isinstance(history(data / "missing"), InMemoryHistory)


# Ctrl-C as a terminal's shell hands it on: whoever runs the tests in the background may ignore it.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from host.cli import main
main()
"""


class Terminal:
    """A program at a real terminal: what it shows, what is typed."""

    def __init__(self, program: subprocess.Popen[bytes], descriptor: int) -> None:
        self.program = program
        self._descriptor = descriptor
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until that is shown; what was shown before it is forgotten."""
        end = time.monotonic() + PATIENCE
        while text not in self.shown:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"'{text}' did not appear in {self.shown!r}"
            self.shown += os.read(self._descriptor, 65536).decode(errors="replace")
        self.shown = self.shown.partition(text)[2]

    def wait_for_prompt(self) -> None:
        """Read until the prompt has taken over the keyboard (bracketed paste is on) and stands there."""
        self.wait_for("\x1b[?2004h")
        self.wait_for(">")


@contextmanager
def at_terminal(*arguments: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={
            **os.environ,
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "COLUMNS": "200",
            "TZ": "Europe/Berlin",
        },
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(program, master)
    finally:
        program.kill()
        program.wait()
        os.close(master)


def test_at_a_real_terminal_the_prompt_talks_waits_and_leaves(echo: PlayedHost, data: Path) -> None:
    asked, left = threading.Event(), threading.Event()

    def slow(params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield ACCEPTED
        if params["text"] == "slow":
            asked.set()
            left.wait(PATIENCE)
        yield message(f"re: {params['text']}")
        yield DONE

    echo.streams["chat"] = slow
    with at_terminal("--data", str(data), "chat", "assistant") as terminal:
        terminal.wait_for("Talking to assistant")
        terminal.wait_for_prompt()
        terminal.type("hello\r")
        terminal.wait_for("re: hello")
        terminal.wait_for_prompt()
        terminal.type("slow\r")
        assert asked.wait(PATIENCE)
        terminal.wait_for("waiting for the reply")
        terminal.program.send_signal(signal.SIGINT)
        terminal.wait_for("Not waiting any longer")
        left.set()
        terminal.wait_for_prompt()
        terminal.type("again\r")
        terminal.wait_for("re: again")
        terminal.wait_for_prompt()
        terminal.type("\x03")
        assert terminal.program.wait(PATIENCE) == 0
    assert "+hello" in (data / "chat-history").read_text()


def test_at_a_real_terminal_a_list_is_a_table_with_local_times(host: PlayedHost, data: Path) -> None:
    host.operations["session.list"] = [{"id": "ses_0123456789abcdef", "last_active": "2026-11-20T21:39:13.042Z"}]

    with at_terminal("--data", str(data), "session", "list") as terminal:
        terminal.wait_for("───")
        terminal.wait_for("ses_0123456789abcdef")
        terminal.wait_for("2026-11-20 22:39:13")
        assert terminal.program.wait(PATIENCE) == 0
