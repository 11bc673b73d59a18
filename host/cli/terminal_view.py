"""What a conversation looks like at a terminal: messages as Markdown, and a line that says what the agent does.

The only module that renders Markdown. Everything from an agent or a chat goes through `plain` first; links are shown as
text with their address, so that none leads somewhere else than it says.
"""

from __future__ import annotations

import io
from dataclasses import field
from time import monotonic
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markdown import Heading, Markdown
from rich.padding import Padding
from rich.text import Text

from host.cli.output import moment
from host.cli.plain import one_line, plain
from shared_schema.dataclass import dataclass
from shared_schema.rows import AgentPhase

WIDEST = 110
"""Columns of text; longer lines are hard to read."""
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_DRAFT_LINES = 12
_CODE_THEME = "ansi_dark"
"""Code in the terminal's own sixteen colours: readable on a light ground as well."""
_PHASES: dict[str, str] = {
    AgentPhase.STARTING: "starting",
    AgentPhase.IDLE: "about to begin",
    AgentPhase.WORKING: "thinking",
    AgentPhase.STOPPING: "stopping",
}


@dataclass(slots=True)
class WorkLine:
    """What the agent does for this terminal, as it was told last. `since` is monotonic."""

    since: float | None = None
    phase: str = ""
    tool: str | None = None
    draft: str = ""
    waiting: int = 0
    is_stopping: bool = False
    is_late: bool = False
    """Whether the person was told that it takes long."""
    now: Any = field(default=monotonic)

    @property
    def is_going_on(self) -> bool:
        """Whether something is to be answered."""
        return self.since is not None

    @property
    def seconds(self) -> float:
        """How long what is answered first has waited."""
        return 0.0 if self.since is None else max(0.0, self.now() - self.since)

    def told(self, entry: dict[str, Any]) -> None:
        """Take over a `working` entry."""
        if "elapsed_seconds" in entry:
            began = self.now() - float(entry["elapsed_seconds"])
            if self.since is None or abs(began - self.since) > 1.0:  # another message is answered now
                self.is_late = False
                self.since = began
        self.phase = str(entry.get("phase") or "")
        tool = entry.get("tool")
        self.tool = None if not tool else one_line(tool)
        self.draft = plain(entry.get("draft") or "")
        self.waiting = int(entry.get("waiting") or 0)

    def sent(self) -> None:
        """Something was sent just now: it is worked on, even if the host has not said so yet."""
        if self.since is None:
            self.since = self.now()
            self.phase, self.tool, self.draft, self.is_late = AgentPhase.STARTING, None, "", False
        self.waiting += 1

    def over(self) -> None:
        """Nothing is to be answered any more."""
        self.since, self.tool, self.draft, self.waiting = None, None, "", 0
        self.is_stopping = self.is_late = False

    def line(self, name: str) -> str:
        """One line for the person: who does what, and for how long."""
        doing = self.tool or _PHASES.get(self.phase, self.phase or "thinking")
        if self.is_stopping:
            doing = "stopping"
        elif self.draft and not self.tool:
            doing = "writing"
        more = f" · {self.waiting - 1} more waiting" if self.waiting > 1 else ""
        frame = _SPINNER[int(self.seconds * 8) % len(_SPINNER)]
        return f"{frame} {name} · {doing} · {duration(self.seconds)}{more}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02} s"


def console() -> Console:
    """The screen. Its width is asked anew at each line that is printed."""
    return Console(highlight=False, markup=False, emoji=False)


def show(screen: Console, entry: dict[str, Any], *, partner: str) -> None:
    """Print a message: who says it, when if it is not from now, the text, and where its files are."""
    name = one_line(entry.get("agent_group") or partner)
    is_notice = bool(entry.get("from_host")) and not entry.get("command")
    when = f" · {moment(str(entry['created_at']))}" if entry.get("late") and entry.get("created_at") else ""
    text = plain(entry.get("text") or "").strip("\n")
    if is_notice:
        heading = Text("! ", style="bold yellow") + Text(f"{name}{when}", style="bold yellow")
        body: RenderableType = Text(text, style="yellow")
    elif entry.get("from_host"):
        heading, body = Text(f"● {name}{when}", style="bold"), Text(text)
    else:
        asks = " asks" if entry.get("question") else ""
        heading = Text(f"● {name}{asks}{when}", style="bold cyan")
        body = Text(text) if entry.get("question") else markdown(text)
    parts: list[RenderableType] = [heading]
    if text:
        parts.append(Padding(body, (0, 0, 0, 2)))
    for file in entry.get("files") or ():
        parts.append(Padding(Text(f"[file] {one_line(file)}", style="cyan", overflow="fold"), (0, 0, 0, 2)))
    if entry.get("question"):
        parts.append(Padding(Text("Type the answer, or the number of one.", style="dim"), (0, 0, 0, 2)))
    screen.print(Group(*parts), width=_width(screen.width))
    screen.print()


def show_hint(screen: Console, text: str) -> None:
    """Print what the prompt says of itself."""
    screen.print(Text(text, style="dim"), width=_width(screen.width))


_NOT_TYPED_HERE = {"typed": "typed at another terminal", "again": "asked again", "elsewhere": "not typed here"}


def show_said(screen: Console, text: str, *, how: str = "", files: tuple[str, ...] = ()) -> None:
    """Print what was said to the agent; `how`, where it was not typed here."""
    lines = [f"[file] {one_line(file)}" for file in files]
    shown = Text("> ") + Text("\n".join([plain(text), *lines]), style="bold")
    if how in _NOT_TYPED_HERE:
        shown += Text(f" ({_NOT_TYPED_HERE[how]})", style="dim")
    screen.print(shown, width=_width(screen.width))


def say(screen: Console, text: str, style: str = "") -> None:
    """Print a line of the program's own."""
    screen.print(Text(plain(text), style=style), width=_width(screen.width))


class _Heading(Heading):
    """A heading where text begins: in the middle of a line, or in a box, it would move about while it is written."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Markdown(Markdown):
    elements = {**Markdown.elements, "heading_open": _Heading}  # noqa: RUF012 (as in the base class)


def markdown(text: str) -> Markdown:
    """Text of an agent's, as Markdown."""
    return _Markdown(text, code_theme=_CODE_THEME, hyperlinks=False)


def as_ansi(text: str, columns: int, lines: int) -> str:
    """The end of a draft as it fits above the prompt: rendered, with escape sequences of ours alone."""
    room = max(1, min(_DRAFT_LINES, lines - 8))
    width = _width(max(10, columns))
    target = io.StringIO()
    screen = Console(
        file=target,
        width=width,
        force_terminal=True,
        color_system="standard",
        highlight=False,
        markup=False,
        emoji=False,
    )
    screen.print(Padding(markdown(text[-4_000:]), (0, 0, 0, 2)), end="")
    shown = target.getvalue().rstrip("\n").split("\n")
    return "\n".join(line.rstrip() for line in shown[-room:])


def _width(columns: int) -> int:
    return min(columns, WIDEST)
