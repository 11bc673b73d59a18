"""The prompt of `dumbwaiter chat`. The only module that imports prompt_toolkit.

Reading the keyboard, showing what comes and sending are three tasks: a new line can be typed at any time, and what
comes late appears above it. When one message fails the prompt stays; only the person leaves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.completion import Completion as Completed
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from rich.console import Console

from host.api.client import HostClient
from host.cli import terminal_view as view
from host.cli.plain import one_line
from host.cli.root import DONE
from host.cli.terminal_feed import Feed
from host.cli.terminal_words import KnownWords, attached, completions, is_leaving, other_agent, own_help
from host.routing import commands
from shared_schema.errors import DumbwaiterError
from shared_schema.ids import Prefix, new_id

HISTORY = "chat-history"
"""What was typed, in the data folder; only its owner may read it."""
_TICK_SECONDS = 0.2
_SEND_ON_LEAVING_SECONDS = 5.0
_STOP = "/stop"
_KEYS = (
    "Enter sends, Alt-Enter begins a new line, Tab completes, @PATH attaches a file, Ctrl-C stops the agent,"
    " /help lists commands, /exit leaves."
)


def talk_at_terminal(
    client: HostClient, *, agent_group: str | None, session: str | None, seconds: float, data: Path
) -> int:
    """Talk until the person leaves; the exit status.

    After `seconds` without an answer a line says that it takes long. Raises `NoHost` when no host runs at the start,
    and `NotFound` or `Conflict` when it is not clear who is to answer.
    """
    given = {"agent_group": agent_group, "session": session}
    where = {name: value for name, value in given.items() if value is not None}
    partner = client.call("terminal.open", where)
    talk = _Talk(client, where, partner, seconds, new_prompt(history(data)), view.console())
    with suppress(KeyboardInterrupt):
        asyncio.run(talk.run())
    return DONE


class _Talk:
    """One person at one terminal."""

    def __init__(
        self,
        client: HostClient,
        where: dict[str, Any],
        partner: dict[str, Any],
        seconds: float,
        prompt: PromptSession[str],
        screen: Console,
    ) -> None:
        self._client = client
        self._where = where
        self._partner = partner
        self._seconds = seconds
        self._prompt = prompt
        self._screen = screen
        self._work = view.WorkLine()
        self._sent: set[str] = set()
        """The platform message ids of what was typed here."""
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._feed: Feed | None = None

    async def run(self) -> None:
        self._greet()
        self._follow()
        tasks = [asyncio.create_task(each) for each in (self._show_what_comes(), self._send_what_goes(), self._tick())]
        try:
            await self._read_keyboard()
            with suppress(TimeoutError):
                async with asyncio.timeout(_SEND_ON_LEAVING_SECONDS):
                    await self._outgoing.join()
        finally:
            if self._feed is not None:
                self._feed.close()
            for task in tasks:
                task.cancel()

    async def _read_keyboard(self) -> None:
        self._prompt.completer = _Words(self)
        self._prompt.key_bindings = self._keys()
        while True:
            try:
                text = await self._prompt.prompt_async(self._message)
            except EOFError:
                return
            if is_leaving(text):
                return
            if (name := other_agent(text)) is not None:
                await self._change_partner(name)
            elif text.strip():
                view.show_said(self._screen, text)
                if own := own_help(text):
                    view.show_hint(self._screen, own)
                self._outgoing.put_nowait(text)

    def _message(self) -> AnyFormattedText:
        """What stands before the cursor: how far the agent is, and the sign of the prompt."""
        if not self._work.is_going_on:
            return "> "
        size = self._prompt.app.output.get_size()
        line = self._work.line(self._name)[: max(1, size.columns - 1)]
        draft = view.as_ansi(self._work.draft, size.columns, size.rows) + "\n" if self._work.draft else ""
        return ANSI(f"{draft}\x1b[36m{line}\x1b[0m\n> ")

    def _keys(self) -> KeyBindings:
        keys = new_keys()

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _stop(event: KeyPressEvent) -> None:
            """First what is half typed, then what the agent does, then the prompt itself."""
            if event.current_buffer.text:
                event.current_buffer.reset()
            elif self._work.is_going_on and not self._work.is_stopping:
                self._work.is_stopping = True
                self._outgoing.put_nowait(_STOP)
            else:
                event.app.exit(exception=EOFError())

        @keys.add("tab")
        def _complete(event: KeyPressEvent) -> None:
            """What can only be one thing is completed at once; else the list is gone through."""
            buffer = event.current_buffer
            found = list(completions(buffer.document.text_before_cursor, self.known))
            if buffer.complete_state is not None and len(found) != 1:
                buffer.complete_next()
            elif len(found) == 1:
                buffer.cancel_completion()
                buffer.delete_before_cursor(found[0].length)
                buffer.insert_text(found[0].text)
            elif found:
                buffer.start_completion(select_first=True)

        return keys

    async def _send_what_goes(self) -> None:
        """One message after the other, in the order in which they were typed."""
        while True:
            text = await self._outgoing.get()
            try:
                await self._send(text)
            except DumbwaiterError as error:
                self._work.is_stopping = False
                if not self._work.waiting:
                    self._work.over()
                await self._print(lambda error=error: view.say(self._screen, f"✗ {one_line(error)}", "bold red"))
            finally:
                self._outgoing.task_done()

    async def _send(self, text: str) -> None:
        """Hand a message to the host. Raises `DumbwaiterError`."""
        command = commands.parse(text)
        files = [] if command is not None else attached(text)
        message_id = new_id(Prefix.MESSAGE)
        self._sent.add(message_id)
        params = {**self._where, "text": text, "platform_message_id": message_id}
        answer = await asyncio.to_thread(
            self._client.call, "terminal.send", params | ({"files": files} if files else {})
        )
        if command is None and not answer.get("command"):
            self._work.sent()
        elif command is not None and command.entry.changes_session and "session" in self._where:
            self._where = {"agent_group": answer["agent_group"]}
        for file in files:
            await self._print(lambda file=file: view.say(self._screen, f"  with {file}", "cyan"))

    async def _show_what_comes(self) -> None:
        while True:
            entries = [await self._incoming.get()]
            while not self._incoming.empty():
                entries.append(self._incoming.get_nowait())
            shown = [entry for entry in entries if self._take(entry)]
            if shown:
                await self._print(lambda shown=shown: self._show(shown))
            self._redraw()

    def _take(self, entry: dict[str, Any]) -> bool:
        """Take an entry over; whether it has to be shown above the prompt."""
        match entry.get("type"):
            case "working":
                self._work.told(entry)
            case "idle":
                self._work.over()
            case "message":
                self._work.draft = ""
                return True
            case "said":
                own = entry.get("platform_message_id") in self._sent
                return not own
            case "done":
                return entry.get("status") == "cancelled" and not self._work.is_stopping and bool(entry.get("error"))
            case "gone":
                self._work.over()
                return True
            case "back" | "over":
                return True
        return False

    def _show(self, entries: Iterable[dict[str, Any]]) -> None:
        for entry in entries:
            match entry["type"]:
                case "message":
                    view.show(self._screen, entry, partner=self._name)
                case "said":
                    files = tuple(entry.get("files") or ())
                    view.show_said(self._screen, str(entry.get("text") or ""), how=str(entry.get("how")), files=files)
                case "done":
                    view.say(self._screen, f"Cancelled: {entry['error']}", "yellow")
                case "gone":
                    view.say(
                        self._screen,
                        f"✗ {entry['what']}. What was sent is kept; this goes on when it is back.",
                        "bold red",
                    )
                case "back":
                    view.say(self._screen, "The host is back.", "yellow")
                case "over":
                    view.say(self._screen, f"✗ {entry['what']}", "bold red")

    async def _tick(self) -> None:
        """Seconds go by while the agent works; after many of them one line says so."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if not self._work.is_going_on:
                continue
            self._redraw()
            if self._work.seconds >= self._seconds and not self._work.is_late:
                self._work.is_late = True
                text = (
                    f"No answer after {view.duration(self._seconds)} yet; {self._name} is still at it, and the answer"
                    " will appear here. Ctrl-C stops it."
                )
                await self._print(lambda text=text: view.say(self._screen, text, "yellow"))

    async def _change_partner(self, name: str) -> None:
        """Talk to another agent from now on."""
        if not name:
            agents = ", ".join(one_line(agent) for agent in self._partner["agents"])
            view.say(self._screen, f"Agents: {agents}. `/agent NAME` talks to one of them.")
            return
        where = {"agent_group": name}
        try:
            partner = await asyncio.to_thread(self._client.call, "terminal.open", where)
        except DumbwaiterError as error:
            view.say(self._screen, f"✗ {one_line(error)}", "bold red")
            return
        self._where, self._partner = where, partner
        self._work.over()
        self._greet()
        self._follow()

    def _follow(self) -> None:
        if self._feed is not None:
            self._feed.close()
        loop = asyncio.get_running_loop()

        def tell(entry: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(self._incoming.put_nowait, entry)

        self._feed = Feed(self._client, dict(self._where), tell)
        self._feed.start()

    def _greet(self) -> None:
        partner = self._partner
        model = f" {one_line(partner['model'])}" if partner.get("model") else ""
        runtime = str(partner.get("runtime") or "")
        runs = "as a process, without isolation" if runtime == "process" else f"in {runtime}" if runtime else ""
        parts = [self._name, f"{one_line(partner.get('provider'))}{model}", runs]
        view.say(self._screen, " · ".join(part for part in parts if part), "bold")
        if partner.get("provider") == "echo":
            view.say(self._screen, "It has no model yet and only repeats what you say: `dumbwaiter init` gives it one.")
        for sentence in partner.get("lacking") or ():
            view.say(self._screen, f"! {one_line(sentence)}", "yellow")
        if partner.get("title"):
            view.say(self._screen, f"The conversation goes on: {one_line(partner['title'])}")
        view.say(self._screen, _KEYS, "dim")

    @property
    def _name(self) -> str:
        return one_line(self._partner["agent_group"])

    @property
    def known(self) -> KnownWords:
        """What can be completed."""
        return KnownWords(self._partner.get("agents") or (), self._partner.get("titles") or ())

    async def _print(self, show: Any) -> None:
        """Print above the prompt, which stays as it is."""
        await run_in_terminal(show)

    def _redraw(self) -> None:
        if self._prompt.app.is_running:
            self._prompt.app.invalidate()


class _Words(Completer):
    """Completes commands, agents, titles and files."""

    def __init__(self, talk: _Talk) -> None:
        self._talk = talk

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completed]:
        for each in completions(document.text_before_cursor, self._talk.known):
            yield Completed(each.text, start_position=-each.length, display_meta=each.meaning)


def new_keys() -> KeyBindings:
    """Enter sends, Alt-Enter (or a paste) makes new lines."""
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def new_prompt(remembered: History) -> PromptSession[str]:
    """A prompt over several lines, which leaves nothing behind: what was typed is printed by `show_said`."""
    return PromptSession(
        history=remembered,
        multiline=True,
        prompt_continuation="  ",
        erase_when_done=True,
        complete_while_typing=True,
        reserve_space_for_menu=6,
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
