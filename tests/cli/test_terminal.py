"""The prompt at a real terminal: a pty, an emulator that shows what a person sees, and a host that is played."""

from __future__ import annotations

import fcntl
import os
import pty
import queue
import select
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyte
import pytest
from prompt_toolkit.history import FileHistory, InMemoryHistory

from host.cli.terminal import history
from shared_schema.errors import NotFound
from tests.cli.host import PlayedHost
from tests.support.wait import until_sync

PATIENCE = 60.0
LINES = 40
SPINNER = set("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

# Ctrl-C as a terminal's shell hands it on: whoever runs the tests in the background may ignore it.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from host.cli import main
main()
"""


class Terminal:
    """A program at a real terminal: what is typed, and what its screen shows."""

    def __init__(self, program: subprocess.Popen[bytes], descriptor: int, columns: int) -> None:
        self.program = program
        self._descriptor = descriptor
        self.screen = pyte.Screen(columns, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        self.screen.resize(LINES, columns)
        self.program.send_signal(signal.SIGWINCH)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait_until(self, condition: Callable[[str], bool], what: str) -> str:
        """Read until the screen is as it should be; what it shows then."""
        end = time.monotonic() + PATIENCE
        while not condition(self.text):
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{what} was not seen:\n{self.text}"
            with suppress(OSError):  # the program has ended
                data = os.read(self._descriptor, 65536)
                self.raw += data
                self._stream.feed(data)
        return self.text

    def wait_for(self, text: str) -> str:
        return self.wait_until(lambda shown: text in shown, f"'{text}'")

    def wait_for_prompt(self) -> str:
        """Wait until the prompt has the keyboard and nothing is worked on."""
        return self.wait_until(lambda shown: shown.endswith("\n>") and not SPINNER & set(shown), "the prompt")

    def leave(self) -> int:
        """Read to the end of the program; its exit status."""
        end = time.monotonic() + PATIENCE
        while self.program.poll() is None:
            ready, _, _ = select.select([self._descriptor], [], [], 0.05)
            assert time.monotonic() < end, f"it did not leave:\n{self.text}"
            if ready:
                with suppress(OSError):
                    self.raw += os.read(self._descriptor, 65536)
        return self.program.wait()


@contextmanager
def at_terminal(
    *arguments: str, columns: int = 80, folder: Path | None = None, packages: Path | None = None
) -> Iterator[Terminal]:
    """The command at a terminal; `packages` are found before those that are installed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={
            **environment,
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "TZ": "Europe/Berlin",
            "PYTHONPATH": os.pathsep.join(map(str, filter(None, (packages, Path(__file__).resolve().parents[2])))),
        },
        cwd=folder,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(program, master, columns)
    finally:
        program.kill()
        program.wait()
        os.close(master)


PARTNER = {
    "agent_group": "assistant",
    "provider": "model",
    "model": "anthropic:claude-x",
    "runtime": "docker",
    "session_id": "ses_1",
    "title": "Plans for the garden",
    "agents": ["assistant", "reviewer"],
    "titles": ["Plans for the garden", "Taxes"],
}


class Talk:
    """The played host's side of a conversation: entries for the terminal, and what it has sent."""

    def __init__(self, host: PlayedHost) -> None:
        self.host = host
        self._entries: list[queue.Queue[dict[str, Any] | None]] = []
        self.said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._position = 0
        host.operations["terminal.open"] = self._open
        host.operations["terminal.send"] = self._send
        host.streams["terminal.follow"] = self._follow

    def tell(self, **entry: Any) -> None:
        until_sync(lambda: self.is_followed, "a terminal that follows")  # it shows its prompt before it follows
        for entries in self._entries:
            entries.put(entry)

    def answer(self, text: str, **more: Any) -> None:
        self._position += 1
        agent = {"agent_group": "assistant", "files": [], "from_host": False, "position": self._position}
        self.tell(type="message", text=text, **(agent | more))

    def work(self, **state: Any) -> None:
        usual = {"session_id": "ses_1", "waiting": 1, "phase": "working", "tool": None, "draft": ""}
        self.tell(type="working", elapsed_seconds=0.0, **(usual | state))

    def end(self) -> None:
        """The connection breaks."""
        followed, self._entries = self._entries, []
        for entries in followed:
            entries.put(None)

    @property
    def is_followed(self) -> bool:
        return bool(self._entries)

    def heard(self) -> dict[str, Any]:
        return self.said.get(timeout=PATIENCE)

    def _open(self, params: dict[str, Any]) -> Any:
        if params.get("agent_group") not in (None, "assistant", "reviewer"):
            return NotFound(f"there is no agent group '{params['agent_group']}'", hint="`dumbwaiter agent-group list`")
        return PARTNER | {"agent_group": params.get("agent_group", "assistant")}

    def _send(self, params: dict[str, Any]) -> dict[str, Any]:
        self.said.put(params)
        return {
            "message_id": params["platform_message_id"],
            "session_id": "ses_1",
            "agent_group": "assistant",
            "command": params["text"].startswith("/"),
        }

    def _follow(self, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        mine: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._entries.append(mine)
        while (entry := mine.get()) is not None:
            yield entry


@pytest.fixture
def talk(host: PlayedHost) -> Iterator[Talk]:
    talk = Talk(host)
    yield talk
    talk.end()


@pytest.fixture
def terminal(talk: Talk, data: Path) -> Iterator[Terminal]:
    with at_terminal("--data", str(data), "chat", columns=80, folder=data) as terminal:
        terminal.wait_for_prompt()
        yield terminal


def test_it_says_who_answers_with_what(terminal: Terminal) -> None:
    assert terminal.text.split("\n")[0] == "assistant · model anthropic:claude-x · in docker"
    assert "Plans for the garden" in terminal.text
    assert "/exit leaves" in terminal.text


def test_an_agent_without_a_model_says_how_to_get_one(talk: Talk, data: Path) -> None:
    talk.host.operations["terminal.open"] = PARTNER | {"provider": "echo", "model": None}

    with at_terminal("--data", str(data), "chat") as terminal:
        assert "only repeats what you say: `dumbwaiter init`" in " ".join(terminal.wait_for_prompt().split())


def test_what_is_typed_is_sent_and_the_answer_is_markdown_that_is_not_faint(terminal: Terminal, talk: Talk) -> None:
    terminal.type("hello\r")
    assert talk.heard()["text"] == "hello"
    talk.work()
    terminal.wait_for("assistant · thinking · ")
    talk.answer("# Title\n\nSome **bold** words.\n\n```python\ndef f():\n    return 1\n```")
    talk.tell(type="idle")

    shown = terminal.wait_for_prompt()

    assert "> hello\n" in shown
    assert "● assistant\n" in shown
    assert "  Title\n" in shown
    assert "Some bold words." in shown
    assert "return 1" in shown
    assert "**" not in shown
    assert "```" not in shown
    answer = terminal.raw[terminal.raw.rindex("●".encode()) :]
    assert b"\x1b[2m" not in answer
    assert b"\x1b[1m" in answer


def test_the_answer_grows_while_it_is_written(terminal: Terminal, talk: Talk) -> None:
    terminal.type("hello\r")
    talk.heard()
    talk.work(draft="The first words")
    assert "writing" in terminal.wait_for("The first words")
    talk.work(draft="The first words and more")
    terminal.wait_for("The first words and more")
    talk.answer("The first words and more of them.")
    talk.tell(type="idle")

    shown = terminal.wait_for_prompt()

    assert shown.count("The first words") == 1


def test_the_tool_and_the_seconds_are_shown(terminal: Terminal, talk: Talk) -> None:
    terminal.type("hello\r")
    talk.heard()
    talk.work(tool="read_file")
    terminal.wait_for("assistant · read_file · 0 s")
    terminal.wait_for("assistant · read_file · 1 s")


def test_a_line_that_is_typed_while_the_agent_works_is_sent_at_once(terminal: Terminal, talk: Talk) -> None:
    terminal.type("one\r")
    assert talk.heard()["text"] == "one"
    talk.work()
    terminal.wait_for("thinking")
    terminal.type("two\r")

    assert talk.heard()["text"] == "two"


def test_what_is_half_typed_survives_an_answer(terminal: Terminal, talk: Talk) -> None:
    terminal.type("half a line")
    terminal.wait_for("> half a line")
    talk.answer("an answer")

    terminal.wait_for("an answer")
    terminal.wait_until(lambda shown: shown.endswith("> half a line"), "the half line below the answer")
    terminal.type(", and the rest\r")
    assert talk.heard()["text"] == "half a line, and the rest"


def test_a_question_can_be_answered_at_once(terminal: Terminal, talk: Talk) -> None:
    terminal.type("do it\r")
    talk.heard()
    talk.work(tool="ask_user_question")
    talk.answer("Which one?\n1. red\n2. blue", question=True)

    shown = terminal.wait_for("assistant asks")
    terminal.type("2\r")

    assert "1. red" in shown
    assert talk.heard()["text"] == "2"


def test_control_c_clears_the_line_then_stops_the_turn_then_leaves(terminal: Terminal, talk: Talk) -> None:
    terminal.type("hello\r")
    talk.heard()
    talk.work()
    terminal.wait_for("thinking")
    terminal.type("half")
    terminal.wait_for("> half")
    terminal.type("\x03")
    terminal.wait_until(lambda shown: "half" not in shown, "the cleared line")
    assert talk.said.empty()
    terminal.type("\x03")
    assert talk.heard()["text"] == "/stop"
    terminal.wait_for("stopping")
    talk.answer("Stopped.", from_host=True, command=True)
    talk.tell(type="idle")
    terminal.wait_for_prompt()
    terminal.type("\x03")
    assert terminal.leave() == 0


@pytest.mark.parametrize("leave", ["/exit\r", "/quit\r", "\x04", "\x03"])
def test_it_leaves_with_status_0(leave: str, terminal: Terminal, talk: Talk) -> None:
    terminal.type(leave)

    assert terminal.leave() == 0
    assert talk.said.empty()


def test_late_answers_appear_by_themselves_with_their_agent(terminal: Terminal, talk: Talk) -> None:
    talk.answer("It is done.", agent_group="reviewer", late=True, created_at="2026-11-20T21:39:13.042Z", files=["/f"])

    shown = terminal.wait_for("It is done.")

    assert "● reviewer · 2026-11-20 22:39:13" in shown
    assert "[file] /f" in shown


def test_what_is_typed_at_another_terminal_is_seen_and_ones_own_line_once(terminal: Terminal, talk: Talk) -> None:
    terminal.type("mine\r")
    mine = talk.heard()
    talk.tell(type="said", platform_message_id=mine["platform_message_id"], text="mine", files=[])
    talk.tell(type="said", platform_message_id="other", text="of the other", how="typed", files=[])

    shown = terminal.wait_for("of the other")

    assert shown.count("mine") == 1
    assert "> of the other (typed at another terminal)" in shown


def test_after_long_there_is_a_line_and_no_end(talk: Talk, data: Path) -> None:
    with at_terminal("--data", str(data), "chat", "--timeout", "0.5") as terminal:
        terminal.wait_for_prompt()
        terminal.type("hello\r")
        talk.heard()
        talk.work()
        assert terminal.wait_for("No answer after 0 s yet").count("No answer") == 1
        talk.answer("here it is")
        talk.tell(type="idle")
        terminal.wait_for("here it is")
        terminal.wait_for_prompt()


def test_words_are_wrapped_and_a_resize_is_survived(terminal: Terminal, talk: Talk) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    terminal.resize(40)
    terminal.type("x")
    terminal.wait_for("> x")
    talk.answer(words)

    shown = terminal.wait_for("word39")

    answer = shown[shown.index("● assistant") :].split("\n")[1:]
    told = [word for line in answer for word in line.split() if word.startswith("word")]
    assert told == words.split()
    assert max(len(line) for line in answer) <= 40
    terminal.wait_until(lambda shown: shown.endswith("> x"), "the half line")


def test_an_agent_cannot_write_escape_sequences(terminal: Terminal, talk: Talk) -> None:
    talk.answer("\x1b]0;title\x07[red]not red[/red]\x1b[2J [here](https://evil.test/)")

    terminal.wait_for("[red]not red[/red]")

    assert b"\x1b]" not in terminal.raw
    assert b"\x1b[2J" not in terminal.raw


def test_a_notice_of_the_host_is_told_apart(terminal: Terminal, talk: Talk) -> None:
    talk.answer("This message could not be answered: no key", from_host=True)

    assert "! assistant\n" in terminal.wait_for("could not be answered")


def test_a_message_that_cannot_be_sent_is_a_line_and_the_prompt_stays(terminal: Terminal, talk: Talk) -> None:
    talk.host.operations["terminal.send"] = NotFound("nobody took it", hint="`dumbwaiter wirings` shows who would")
    terminal.type("hello\r")

    assert "✗ nobody took it: `dumbwaiter wirings`" in terminal.wait_for("✗")
    terminal.wait_for_prompt()


def test_a_host_that_goes_is_a_line_and_when_it_is_back_all_goes_on(terminal: Terminal, talk: Talk) -> None:
    talk.answer("before")
    terminal.wait_for("before")
    talk.end()
    terminal.wait_for("✗ the host has ended the conversation")
    talk.answer("behind it")

    shown = terminal.wait_for("behind it")

    assert "The host is back." in shown
    assert talk.host.params_of("terminal.follow")["after"] == 1


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("/ex", "/exit"), ("/agent rev", "/agent reviewer"), ("/resume Pl", "/resume Plans for the garden")],
)
def test_commands_agents_and_titles_are_completed(typed: str, completed: str, terminal: Terminal, talk: Talk) -> None:
    terminal.type(typed)
    terminal.wait_for(typed)
    terminal.type("\t")

    terminal.wait_for(f"> {completed}")


def test_files_are_completed_and_attached(terminal: Terminal, talk: Talk, data: Path) -> None:
    (data / "report one.txt").write_text("x")
    terminal.type("read @repo\t")
    terminal.wait_for('@"report one.txt"')
    terminal.type("\r")

    heard = talk.heard()

    assert heard["text"] == 'read @"report one.txt"'
    assert [Path(file).name for file in heard["files"]] == ["report one.txt"]


def test_another_agent_can_be_talked_to(terminal: Terminal, talk: Talk) -> None:
    terminal.type("/agent reviewer\r")
    terminal.wait_for("reviewer · model")
    terminal.type("hello\r")

    assert talk.heard()["agent_group"] == "reviewer"


def test_an_agent_that_is_not_there_is_refused_before_the_prompt(talk: Talk, data: Path) -> None:
    with at_terminal("--data", str(data), "chat", "nobody") as terminal:
        terminal.wait_for("there is no agent group 'nobody'")
        assert terminal.leave() == 1


@pytest.mark.parametrize("typed", ["one\x1b\rtwo\r", "\x1b[200~one\ntwo\x1b[201~\r"], ids=["alt-enter", "paste"])
def test_a_message_can_have_several_lines(typed: str, terminal: Terminal, talk: Talk) -> None:
    terminal.type(typed)

    assert talk.heard()["text"] == "one\ntwo"


def test_the_history_is_private(data: Path) -> None:
    (data / "chat-history").touch(mode=0o644)

    assert isinstance(history(data), FileHistory)
    assert stat.S_IMODE((data / "chat-history").stat().st_mode) == 0o600


def test_without_a_place_for_it_the_history_is_in_memory(data: Path) -> None:
    assert isinstance(history(data / "missing"), InMemoryHistory)


def test_at_a_real_terminal_the_doctor_says_local_times(host: PlayedHost, data: Path) -> None:
    what = "process 1 runs since 2020-11-20T23:39:13.042Z"
    host.operations["doctor.examine"] = [{"name": "host", "ok": True, "what": what, "hint": None}]

    with at_terminal("--data", str(data), "doctor") as terminal:
        terminal.wait_for("runs since 2020-11-21 00:39:13")  # in the zone of the test
        assert terminal.leave() == 0


def test_at_a_real_terminal_a_list_is_a_table_with_local_times(host: PlayedHost, data: Path) -> None:
    row = {"id": "ses_0123456789abcdef", "short_id": "01234", "last_active": "2020-11-20T23:39:13.042Z"}
    host.operations["session.list"] = [row | {"title": "A long title " * 20}]

    with at_terminal("--data", str(data), "session", "list") as terminal:
        shown = terminal.wait_for("2020-11-21")  # in the zone of the test
        assert "01234" in shown
        assert "…" in shown
        assert terminal.leave() == 0
