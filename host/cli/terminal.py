"""The prompt of `dumbwaiter chat`. The only module that imports prompt_toolkit.

Whatever goes wrong with one message, the prompt comes back; only the person leaves.
"""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output
from rich.console import Console
from rich.text import Text

from host.cli.conversation import Conversation, Exchange, Reply
from host.cli.output import moment
from host.cli.plain import one_line, plain
from host.cli.root import DONE
from shared_schema.errors import DumbwaiterError

HISTORY = "chat-history"
"""What was typed, in the data folder; only its owner may read it."""


def talk_at_terminal(conversation: Conversation, data: Path) -> int:
    """Talk until the person leaves; the exit status. Raises `NoHost` when no host runs at the start."""
    unread = conversation.unread()
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"Talking to {one_line(conversation.partner)}. Enter sends, Alt-Enter begins a new line, Ctrl-D leaves, /help"
        " says more.",
        style="dim",
        markup=False,
    )
    return talk(conversation, new_prompt(history(data)), console, unread)


def talk(
    conversation: Conversation, prompt: PromptSession[str], console: Console, unread: list[Reply] | None = None
) -> int:
    """Prompt, send, show, until Ctrl-C or Ctrl-D at the prompt. `unread` is shown first."""
    letters = unread or []
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            for letter in letters:
                show(console, letter)
            text = prompt.prompt("> ")
            if text.strip():
                _exchange(conversation, text, console)
            letters = _unread(conversation)
    return DONE


def new_prompt(
    remembered: History, *, keyboard: Input | None = None, screen: Output | None = None
) -> PromptSession[str]:
    """A prompt over several lines: Enter sends, Alt-Enter (or a paste) makes new lines."""
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return PromptSession(
        history=remembered,
        multiline=True,
        key_bindings=keys,
        prompt_continuation="  ",
        input=keyboard,
        output=screen,
    )


def history(data: Path) -> History:
    """What was typed before, kept in the data folder; in memory alone where that cannot be written."""
    path = data / HISTORY
    try:
        path.touch(mode=0o600, exist_ok=True)
        path.chmod(0o600)
        path.open("ab").close()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def show(console: Console, reply: Reply) -> None:
    """Print a message, without any control character it may carry."""
    when = f"({moment(reply.created_at)}) " if reply.created_at else ""
    if reply.text or when:
        console.print(Text(when, style="dim") + Text(plain(reply.text), style="yellow" if reply.from_host else ""))
    for file in reply.files:
        console.print(Text(f"[file] {one_line(file)}", style="cyan"))


def _exchange(conversation: Conversation, text: str, console: Console) -> None:
    """One message and its replies. Ctrl-C stops waiting; trouble is one red line.

    The host's own notices come last, and not at all when the red line says the same.
    """
    exchange = Exchange()
    try:
        with (
            console.status("waiting for the reply; Ctrl-C stops waiting", spinner="dots"),
            closing(conversation.ask(text, exchange)) as replies,
        ):
            for reply in replies:
                if not exchange.is_notice(reply):
                    show(console, reply)
    except KeyboardInterrupt:
        console.print("Not waiting any longer; the reply will be shown here when it comes.", style="dim")
    except DumbwaiterError as error:
        console.print(Text(f"✗ {one_line(error)}", style="bold red"))
    for notice in exchange.replies:
        if exchange.is_notice(notice) and exchange.status != "failed":
            show(console, notice)


def _unread(conversation: Conversation) -> list[Reply]:
    """What came meanwhile; nothing when the host cannot say, which the next message will tell anyway."""
    try:
        return conversation.unread()
    except DumbwaiterError:
        return []
